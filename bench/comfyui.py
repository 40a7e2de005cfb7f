"""What Limner in front of a ComfyUI instance costs per job, against calling the instance directly in the same run.

The instance is a `limner serve` with its own engine: a complete server of ComfyUI's protocol in processes of its own.
Direct calls and calls through the second Limner take turns, so that both meet the same machine.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import websockets
from tests.support.tree import Tree, eventually, trivial

from bench.measure import percentile
from bench.server import ended

WARM_UP = 10


class Caller:
    """One client of one server, on kept-alive connections."""

    def __init__(self, base: str, name: str) -> None:
        self._name = name
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
        body = {"prompt": trivial(value, prefix=self._name), "client_id": self._name}
        answer = (await self._http.post("/prompt", json=body)).raise_for_status().json()
        await ended(self._socket, {answer["prompt_id"]})
        success = time.perf_counter()
        history = (await self._http.get(f"/history/{answer['prompt_id']}")).json()
        while not history:  # ComfyUI stores the entry just after it tells of the success
            history = (await self._http.get(f"/history/{answer['prompt_id']}")).json()
        picture = history[answer["prompt_id"]]["outputs"]["2"]["images"][0]
        (await self._http.get("/view", params=picture)).raise_for_status()
        return (success - begin) * 1000, (time.perf_counter() - begin) * 1000


async def _compare(instance: str, front: str, times: int) -> dict[str, dict[str, float]]:
    took: dict[str, list[tuple[float, float]]] = {"direct": [], "through": []}
    async with AsyncExitStack() as stack:
        callers = {
            "direct": await stack.enter_async_context(Caller(instance, "direct")),
            "through": await stack.enter_async_context(Caller(front, "through")),
        }
        for number in range(times + WARM_UP):
            for way, caller in callers.items():
                value = 2 * number + (way == "through")  # never the same graph twice: nothing comes from a cache
                took[way].append(await caller.job(value))
    measured: dict[str, dict[str, float]] = {}
    for way, all_of_them in took.items():
        success, picture = zip(*all_of_them[WARM_UP:], strict=True)
        measured[way] = {
            "success_p50": percentile(success, 0.5),
            "success_p95": percentile(success, 0.95),
            "picture_p50": percentile(picture, 0.5),
        }
    measured["added"] = {name: measured["through"][name] - value for name, value in measured["direct"].items()}
    return measured


def measure(folder: Path, times: int = 100) -> dict[str, dict[str, float]]:
    """Milliseconds: `direct` at the instance, `through` Limner in front of it, and what that has `added`."""
    instance = Tree(folder / "instance")
    front = Tree(folder / "front", "--engine", f"comfyui={instance.base}")
    instance.start()
    try:
        front.start()
        try:
            eventually(lambda: _has_nodes(front), seconds=60, what="the instance's nodes are known in front")
            return asyncio.run(_compare(instance.base, front.base, times))
        finally:
            front.stop()
    finally:
        instance.stop()


def _has_nodes(front: Tree) -> bool:
    stats = front.get("/system_stats")
    return bool(stats and stats["devices"]) and bool(front.get("/object_info/SaveImage"))


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory(prefix="limner-bench-") as name:
        print(json.dumps(measure(Path(name)), indent=2))
