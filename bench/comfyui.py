"""What Limner in front of a ComfyUI instance costs per job, against calling the instance directly in the same run.

Direct calls and calls through Limner take turns, so that both meet the same machine. The instance is one that answers
as a recorded ComfyUI did and computes nothing (`recorded`), and a `limner serve` with its own engine (`limner`): a
complete server, whose own four processes want the same cores.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import websockets
from tests.support.tree import Tree, eventually, trivial

from bench import replayed
from bench.measure import percentile
from bench.server import ended

WARM_UP = 10

Workflow = Callable[[int], dict[str, Any]]
"""The workflow of the n-th job."""

Measured = dict[str, dict[str, float]]


class Caller:
    """One client of one server, on kept-alive connections."""

    def __init__(self, base: str, name: str, workflow: Workflow) -> None:
        self._name = name
        self._workflow = workflow
        self._http = httpx.AsyncClient(base_url=base, timeout=60)
        self._connect = websockets.connect(f"{base.replace('http', 'ws', 1)}/ws?clientId={name}", max_size=None)

    async def __aenter__(self) -> Caller:
        self._socket = await self._connect
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()
        await self._http.aclose()

    async def job(self, value: int) -> tuple[float, float]:
        """Milliseconds from POST to `execution_success`, and to the picture's bytes in hand."""
        begin = time.perf_counter()
        body = {"prompt": self._workflow(value), "client_id": self._name}
        answer = (await self._http.post("/prompt", json=body)).raise_for_status().json()
        await ended(self._socket, {answer["prompt_id"]})
        success = time.perf_counter()
        history = (await self._http.get(f"/history/{answer['prompt_id']}")).json()
        while not history:  # ComfyUI stores the entry just after it tells of the success
            history = (await self._http.get(f"/history/{answer['prompt_id']}")).json()
        [output] = history[answer["prompt_id"]]["outputs"].values()
        picture = output["images"][0]
        (await self._http.get("/view", params=picture)).raise_for_status()
        return (success - begin) * 1000, (time.perf_counter() - begin) * 1000


async def _compare(instance: str, front: str, workflow: Workflow, times: int) -> Measured:
    took: dict[str, list[tuple[float, float]]] = {"direct": [], "through": []}
    async with AsyncExitStack() as stack:
        callers = {
            "direct": await stack.enter_async_context(Caller(instance, "direct", workflow)),
            "through": await stack.enter_async_context(Caller(front, "through", workflow)),
        }
        for number in range(times + WARM_UP):
            for way, caller in callers.items():
                value = 2 * number + (way == "through")  # never the same graph twice: nothing comes from a cache
                took[way].append(await caller.job(value))
    measured: Measured = {}
    for way, all_of_them in took.items():
        success, picture = zip(*all_of_them[WARM_UP:], strict=True)
        measured[way] = {
            "success_p50": percentile(success, 0.5),
            "success_p95": percentile(success, 0.95),
            "picture_p50": percentile(picture, 0.5),
        }
    measured["added"] = {name: measured["through"][name] - value for name, value in measured["direct"].items()}
    return measured


def _in_front(folder: Path, instance: str, workflow: Workflow, times: int) -> Measured:
    front = Tree(folder / "front", "--engine", f"comfyui={instance}")
    front.start()
    try:
        eventually(lambda: _has_nodes(front), seconds=60, what="the instance's nodes are known in front")
        return asyncio.run(_compare(instance, front.base, workflow, times))
    finally:
        front.stop()


def before_a_recorded_one(folder: Path, times: int) -> Measured:
    command = [sys.executable, "-m", "bench.replayed", str(2 * (times + WARM_UP))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as instance:
        assert instance.stdout is not None
        assert instance.stdin is not None
        try:
            return _in_front(folder, instance.stdout.readline().strip(), lambda _: replayed.graph(), times)
        finally:
            instance.stdin.close()


def before_a_limner(folder: Path, times: int) -> Measured:
    instance = Tree(folder / "instance")
    instance.start()
    try:
        return _in_front(folder, instance.base, lambda value: trivial(value, prefix="bench"), times)
    finally:
        instance.stop()


def measure(folder: Path, times: int = 100) -> dict[str, Measured]:
    """Milliseconds: `direct` at the instance, `through` Limner in front of it, and what that has `added`."""
    measured = {}
    for name, instance in (("recorded", before_a_recorded_one), ("limner", before_a_limner)):
        (folder / name).mkdir()
        measured[name] = instance(folder / name, times)
    return measured


def _has_nodes(front: Tree) -> bool:
    stats = front.get("/system_stats")
    return bool(stats and stats["devices"]) and bool(front.get("/object_info/SaveImage"))


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory(prefix="limner-bench-") as name:
        print(json.dumps(measure(Path(name)), indent=2))
