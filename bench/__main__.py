"""`make bench`: measures this machine, writes bench/results/<date>.json and prints the table of docs/performance.md."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import baselines, comfyui, server
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
    lines += [f"| {' | '.join(row)} |" for row in rows]
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
