"""The durable path of a whole `limner serve`: start-up, latency, throughput, memory."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import psutil
import websockets
from tests.support.tree import Tree, eventually, trivial, txt2img

from bench.measure import cpu_seconds, percentile, rss_mib


def first_answer(tree: Tree) -> dict[str, float]:
    """Process start to the first 200 on /system_stats: seconds on the clock and of CPU.

    The gateway's own CPU seconds are what its answer costs; the tree's hold nats-server and the worker's start too.
    """
    start = time.perf_counter()
    tree.start(ready=False)
    eventually(lambda: tree.get("/system_stats"), seconds=60, what="/system_stats answers")
    seconds = time.perf_counter() - start
    family = tree.processes()
    return {
        "wall_s": seconds,
        "gateway_cpu_s": cpu_seconds(family["gateway"]),
        "serve_cpu_s": cpu_seconds(family["serve"]),
        "tree_cpu_s": cpu_seconds(p for group in family.values() for p in group),
    }


async def ended(socket: websockets.ClientConnection, prompt_ids: set[str]) -> None:
    """Reads until each of these prompts has told `execution_success`."""
    left = set(prompt_ids)
    async with asyncio.timeout(300):
        while left:
            frame = await socket.recv()
            if isinstance(frame, bytes):
                continue
            message = json.loads(frame)
            if message["type"] == "execution_error":
                raise RuntimeError(message["data"]["exception_message"])
            if message["type"] == "execution_success":
                left.discard(message["data"]["prompt_id"])


async def picture(tree: Tree, seed: int) -> float:
    """Seconds from POST to `execution_success` of the demo picture (20 steps)."""
    async with websockets.connect(f"{tree.base.replace('http', 'ws', 1)}/ws?clientId=bench", max_size=None) as socket:
        start = time.perf_counter()
        prompt_id = await asyncio.to_thread(tree.post, txt2img(seed=seed), client_id="bench")
        await ended(socket, {prompt_id})
        return time.perf_counter() - start


async def latency(tree: Tree, times: int) -> dict[str, float]:
    """POST to `execution_success` of EmptyImage -> PreviewImage, a new value each time, one after the other, in ms."""
    took = []
    url = f"{tree.base.replace('http', 'ws', 1)}/ws?clientId=bench"
    async with websockets.connect(url, max_size=None) as socket:
        for n in range(times):
            start = time.perf_counter()
            answer = tree.http.post("/prompt", json={"prompt": trivial(n), "client_id": "bench"})
            answer.raise_for_status()
            await ended(socket, {answer.json()["prompt_id"]})
            took.append((time.perf_counter() - start) * 1000)
    took = took[times // 10 :]  # the first tenth warms up
    return {"p50": percentile(took, 0.5), "p95": percentile(took, 0.95)}


async def throughput(tree: Tree, jobs: int, first: int) -> dict[str, float]:
    """`jobs` prompts queued as fast as one client can: prompts per second from the first POST to the last end.

    `drain_per_s` counts those still open once all were queued.
    """
    async with websockets.connect(f"{tree.base.replace('http', 'ws', 1)}/ws?clientId=bench", max_size=None) as socket:
        start = time.perf_counter()

        def send() -> set[str]:
            return {
                tree.http.post("/prompt", json={"prompt": trivial(first + n), "client_id": "bench"}).json()["prompt_id"]
                for n in range(jobs)
            }

        reader_queue: asyncio.Queue[str] = asyncio.Queue()

        async def read() -> None:
            async for frame in socket:
                if isinstance(frame, str) and '"execution_success"' in frame:
                    reader_queue.put_nowait(json.loads(frame)["data"]["prompt_id"])

        reader = asyncio.create_task(read())
        ids = await asyncio.to_thread(send)
        queued = time.perf_counter()
        done = 0
        while not reader_queue.empty():
            reader_queue.get_nowait()
            done += 1
        open_then = jobs - done
        for _ in range(open_then):
            await asyncio.wait_for(reader_queue.get(), 120)
        end = time.perf_counter()
        reader.cancel()
        assert len(ids) == jobs
    return {
        "prompts_per_s": jobs / (end - start),
        "posts_per_s": jobs / (queued - start),
        "open_when_all_queued": float(open_then),
        "drain_per_s": open_then / (end - queued) if open_then else 0.0,
    }


def memory(tree: Tree) -> dict[str, float]:
    """RSS in MiB of each process."""
    return {role: sum(rss_mib(p) for p in group) for role, group in tree.processes().items()}


def measure(folder: Path) -> dict[str, Any]:
    """Everything, on one fresh server. `folder` takes its data directory."""
    psutil.cpu_percent()
    tree = Tree(folder / "data")
    result: dict[str, Any] = {}
    begin = time.perf_counter()
    result["first_200"] = first_answer(tree)
    try:
        asyncio.run(picture(tree, 1))
        result["start_to_first_picture_s"] = time.perf_counter() - begin
        result["memory_after_first_picture_mib"] = memory(tree)
        result["warm_picture_s"] = percentile([asyncio.run(picture(tree, seed)) for seed in range(2, 9)], 0.5)
        result["latency_ms"] = asyncio.run(latency(tree, 330))
        result["queued_300"] = asyncio.run(throughput(tree, 300, 10_000))
        result["memory_mib"] = memory(tree)
    finally:
        tree.stop()
    return result
