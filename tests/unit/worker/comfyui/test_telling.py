"""What a run tells, while the sink is slow, or fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from limner.errors import LimnerError, Unavailable
from limner.worker.engines.comfyui.client import Unreachable
from limner.worker.engines.comfyui.history import Ending
from limner.worker.engines.comfyui.inputs import Prepared
from limner.worker.engines.comfyui.outputs import FileGone, Outputs
from limner.worker.engines.comfyui.telling import MOST_AHEAD, MOST_PICTURES, Telling
from limner.worker.engines.port import EngineEvent, EngineLost
from tests.unit.worker.comfyui.fakes import Instance, RecordingSink, request

PLAIN = Prepared(workflow={}, shown={})
SAVED = {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}


class SlowSink(RecordingSink):
    """Takes events while `open` is set. `fault`: what it raises instead."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.fault: Exception | None = None

    async def event(self, event: EngineEvent) -> None:
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        await super().event(event)


def event(kind: str, **data: Any) -> EngineEvent:
    return EngineEvent(kind=kind, data=data)


def output(node: str, ui: dict[str, Any]) -> EngineEvent:
    return event("NodeOutput", node=ref(node), ui=ui, cached=False)


def ref(node: str) -> dict[str, Any]:
    return {"id": node, "display": node, "parent": None, "real": node}


@asynccontextmanager
async def telling(sink: SlowSink, folder: Path, instance: Instance | None = None) -> AsyncIterator[Telling]:
    outputs = Outputs(instance or Instance(), request(folder), sink, keep_temp=True, prepared=PLAIN)
    one = Telling(sink, outputs, PLAIN)
    try:
        async with asyncio.timeout(5):
            yield one
    finally:
        await one.close()


async def test_a_slow_sink_hears_all_in_order(tmp_path: Path) -> None:
    sink = SlowSink()
    sink.open.clear()
    async with telling(sink, tmp_path, Instance({("output", "", "a.png"): b"picture"})) as one:
        for kind in ("RunStarted", "NodeStarted"):
            one.tell(event(kind))
        one.tell(output("9", SAVED))
        one.tell(event("NodeFinished"))
        assert sink.events == []
        sink.open.set()
        await one.told()
    assert [each.kind for each in sink.events] == ["RunStarted", "NodeStarted", "NodeOutput", "NodeFinished"]


async def test_what_only_passes_does_not_pile_up_before_a_slow_sink(tmp_path: Path) -> None:
    sink = SlowSink()
    sink.open.clear()
    async with telling(sink, tmp_path) as one:
        for number in range(MOST_AHEAD * 2):
            one.tell(event("StepDone", value=number))
            one.tell(event("PreviewReady"))
        one.tell(event("NodeFinished"))
        sink.open.set()
        await one.told()
    kinds = [each.kind for each in sink.events]
    assert kinds.count("PreviewReady") <= MOST_PICTURES
    assert len(kinds) == MOST_AHEAD + 1
    assert kinds[-1] == "NodeFinished"


@pytest.mark.parametrize("fault", [EngineLost("gone"), Unavailable("no gateway"), OSError(28, "full"), KeyError("x")])
async def test_what_the_sink_raises_comes_out_of_whatever_is_asked_next(tmp_path: Path, fault: Exception) -> None:
    sink = SlowSink()
    sink.fault = fault
    async with telling(sink, tmp_path) as one:
        one.tell(event("RunStarted"))
        with pytest.raises(type(fault)):
            await one.told()
        assert one.failed
        for ask in (one.check, lambda: one.tell(event("NodeStarted"))):
            with pytest.raises(type(fault)):
                ask()


async def test_closing_waits_for_no_sink(tmp_path: Path) -> None:
    sink = SlowSink()
    sink.open.clear()
    async with telling(sink, tmp_path) as one:
        one.tell(event("RunStarted"))
        waiting = asyncio.create_task(one.told())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert sink.events == []


async def test_files_that_cannot_be_had_at_once_are_told_when_the_run_has_ended(tmp_path: Path) -> None:
    sink, instance = SlowSink(), Instance({("output", "", "a.png"): b"picture"})
    instance.faults["a.png"] = Unreachable("no answer")
    async with telling(sink, tmp_path, instance) as one:
        one.tell(output("9", SAVED))
        await one.told()
        assert sink.events == []
        instance.faults.clear()
        meta = {"9": {"node_id": "9", "display_node": "9", "parent_node": None, "real_node_id": "9"}}
        ending = Ending(outcome="succeeded", outputs={"9": SAVED}, meta=meta)
        assert await one.settle(ending, missed=False) == ({"9": SAVED}, [])
    [told] = sink.events
    assert (told.kind, len(told.files)) == ("NodeOutput", 1)


@pytest.mark.parametrize("kind", ["output", "temp"])
async def test_a_cached_nodes_file_that_is_gone_is_no_mere_warning(tmp_path: Path, kind: str) -> None:
    sink = SlowSink()
    ui = {"images": [{"filename": "a.png", "subfolder": "", "type": kind}]}
    async with telling(sink, tmp_path) as one:
        one.tell(event("NodesCached", nodes=["8"]))
        one.tell(output("9", ui))  # this one did run, and says what is not so
        await one.told()
        assert len(sink.warnings) == 1
        one.tell(output("8", ui))
        with pytest.raises(FileGone, match=r"a\.png.*node 8") as gone:
            await one.told()
    assert isinstance(gone.value, LimnerError)
    assert (gone.value.code, gone.value.retryable) == ("worker_lost", True)
