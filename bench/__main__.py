"""`make bench`: measures this machine, writes bench/results/<date>.json and prints the table of docs/performance.md."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import baselines, comfyui, executor, inference, server
from bench.measure import machine

RESULTS = Path(__file__).parent / "results"
MIB = "MiB"


def table(result: dict[str, Any]) -> str:
    """The figures as a Markdown table, each beside what it is meant to reach and ComfyUI 0.3.64's own, where known."""
    run, base = result["server"], result["baselines"]
    commit, http = base["commit_ms"]["p50"], base["http_ms"]["p50"]
    first, queued, memory = run["first_200"], run["queued_300"], run["memory_mib"]
    p50 = run["latency_ms"]["p50"]
    recorded, limner = result["comfyui"]["recorded"], result["comfyui"]["limner"]
    small, large = result["executor"]
    engine = result["inference"]
    load, picture, text = engine["load"], engine["picture_64px_4_steps"], engine["text"]
    steps = [
        (f"SD1.5's size, a step at {edge}x{edge}, over diffusers' bare UNet", step)
        for edge, step in engine["step"].items()
    ]
    engine_rows = [
        ("executor, per trivial node of 1,000", f"{small['first_run_us_per_node']:.0f} us", "<= 100", ""),
        ("the same of 10,000", f"{large['first_run_us_per_node']:.0f} us", "linear", ""),
        ("a workflow of 10 nodes, all in the cache", f"{result['cached_ms']:.2f} ms", "<= 5", ""),
        *((what, f"{step['ratio']:.2f} x ({step['bare_s']:.2f} s)", "<= 1.05", "") for what, step in steps),
        ("load over `load_file` + assign: time", f"{load['ratio']:.2f} x ({load['seconds']:.2f} s)", "<= 1.3", ""),
        ("the same: extra memory at its peak over the weights", f"{engine['load_memory_ratio']:.2f} x", "<= 1.15", ""),
        ("start to first 64-pixel picture of 4 steps", f"{picture['first_cpu_s']:.0f} CPU-s", "", "30 CPU-s"),
        ("a second one, of another prompt", f"{picture['warm_cpu_s']:.1f} CPU-s", "", "20 CPU-s"),
        ("memory at its peak", f"{picture['peak_mib'] / 1024:.1f} GiB", "", "6.8 GB"),
        ("encoding a prompt; the same again", f"{text['first_ms']:.0f} ms; {text['again_ms']:.2f} ms", "", ""),
    ]
    rows = [
        ("start to first 200 on /system_stats, gateway", f"{first['gateway_cpu_s']:.2f} CPU-s", "<= 2", "6.6 CPU-s"),
        ("the same, on the clock", f"{first['wall_s']:.2f} s", "", ""),
        ("start to first demo picture", f"{run['start_to_first_picture_s']:.1f} s", "", ""),
        ("warm demo picture, 20 steps, 64x64", f"{run['warm_picture_s'] * 1000:.0f} ms", "", ""),
        ("POST to execution_success, p50", f"{p50:.1f} ms", "<= 15", "4.7-5.7 ms, in memory"),
        ("the same, p95", f"{run['latency_ms']['p95']:.1f} ms", "", ""),
        ("p50 over one SQLite commit + one bare HTTP POST", f"{p50 / (commit + http):.1f} x", "", ""),
        ("before a ComfyUI: added per job, p50", f"{recorded['added']['success_p50']:.1f} ms", "<= 15", ""),
        ("the same, to the picture's bytes", f"{recorded['added']['picture_p50']:.1f} ms", "", ""),
        ("that ComfyUI called directly, p50", f"{recorded['direct']['success_p50']:.1f} ms", "", ""),
        ("before a whole Limner: added per job, p50", f"{limner['added']['success_p50']:.1f} ms", "", ""),
        ("that Limner called directly, p50", f"{limner['direct']['success_p50']:.1f} ms", "", ""),
        ("300 queued at once", f"{queued['prompts_per_s']:.0f} prompts/s", ">= 150", "127-180, in memory"),
        ("RSS of the gateway", f"{memory['gateway']:.0f} {MIB}", "<= 150", ""),
        ("RSS of the engine process", f"{memory['engine']:.0f} {MIB}", "", "884 MiB, one process"),
        ("RSS of the supervisor", f"{memory['supervisor']:.0f} {MIB}", "", ""),
        ("RSS of nats-server", f"{memory['nats']:.0f} {MIB}", "", ""),
        ("RSS of `limner serve` itself", f"{memory['serve']:.0f} {MIB}", "", ""),
        ("baseline: one SQLite commit (WAL, FULL), p50", f"{commit:.2f} ms", "", ""),
        ("baseline: fsync of 4 kB, p50", f"{base['fsync_ms']['p50']:.2f} ms", "", ""),
        ("baseline: POST to an empty FastAPI route, p50", f"{http:.2f} ms", "", ""),
    ]
    lines = ["| what | measured | reach | ComfyUI 0.3.64 |", "|---|--:|--:|--:|"]
    lines += [f"| {' | '.join(row)} |" for row in [*rows, *engine_rows]]
    return "\n".join(lines)


def main() -> None:
    result: dict[str, Any] = {"machine": machine(), "at": time.strftime("%Y-%m-%d %H:%M")}
    with tempfile.TemporaryDirectory(prefix="limner-bench-") as name:
        folder = Path(name)
        result["baselines"] = {
            "commit_ms": baselines.commit_ms(folder),
            "fsync_ms": baselines.fsync_ms(folder),
            "http_ms": asyncio.run(baselines.http_ms()),
        }
        result["executor"] = [executor.measure(size) for size in executor.SIZES]
        result["cached_ms"] = executor.measure_small()["cached_run_ms"]
        result["inference"] = inference.measure(folder / "inference")
        result["server"] = server.measure(folder)
        result["comfyui"] = comfyui.measure(folder)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("%Y-%m-%dT%H%M%S.json")
    path.write_text(json.dumps(result, indent=2) + "\n")
    print("machine:", ", ".join(f"{k} {v}" for k, v in result["machine"].items()))
    print()
    print(table(result))
    print()
    print(path)


if __name__ == "__main__":
    main()
