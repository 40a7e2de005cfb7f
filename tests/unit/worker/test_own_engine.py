"""The engine process at the other end of the socketpair, with toy nodes instead of torch."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from limner.enginehost.protocol import RunRequest
from limner.errors import BadName, Unavailable
from limner.worker.engines import own
from limner.worker.engines.own import OwnEngine
from limner.worker.engines.port import EngineEvent, EngineLost, RunEnded, Wanted

TOY = [sys.executable, str(Path(__file__).with_name("toy_engine.py"))]
LONG = 10**6


class Desk:
    """Takes what a run tells; `names` answers its questions."""

    def __init__(self) -> None:
        self.events: list[EngineEvent] = []
        self.asked: list[Wanted] = []
        self.fault: Exception | None = None
        self.slow: asyncio.Event | None = None  # what the first step waits for
        self.started = asyncio.Event()
        self.stepped = asyncio.Event()

    async def event(self, event: EngineEvent) -> None:
        self.events.append(event)
        if event.kind == "NodeStarted":
            self.started.set()
        if event.kind == "StepDone":
            self.stepped.set()
            if self.slow is not None:
                await self.slow.wait()
        if event.kind == "NodeOutput" and self.fault is not None:
            raise self.fault

    async def reserve(self, wanted: Wanted) -> list[dict[str, str]]:
        self.asked.append(wanted)
        if wanted.prefix == "taken":
            raise BadName("that prefix is taken")
        return [{"filename": f"{wanted.prefix}_00001_.txt", "subfolder": wanted.subfolder}]

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


@pytest.fixture
async def engine() -> AsyncIterator[OwnEngine]:
    engine = OwnEngine(TOY, grace_seconds=0.3)
    await engine.start()
    yield engine
    await engine.close()


def workflow(first: str, *, save: dict[str, Any] | None = None, **inputs: Any) -> dict[str, Any]:
    return {
        "1": {"class_type": first, "inputs": inputs},
        "2": {"class_type": "Save", "inputs": {"text": ["1", 0], **(save or {})}},
    }


def request(graph: dict[str, Any], folder: Path, run: int = 1, **more: Any) -> RunRequest:
    return RunRequest(
        run=run, prompt_id="p", tenant="t", workflow=graph, outputs=["2"], folder=str(folder / str(run)), **more
    )


async def test_a_run_tells_its_events_in_order_and_its_files_with_them(engine: OwnEngine, tmp_path: Path) -> None:
    desk = Desk()
    ended = await engine.run(request(workflow("Echo", text="hello"), tmp_path), desk)
    assert ended.outcome == "succeeded"
    assert ended.models == ["toy.safetensors"]
    assert desk.kinds == [
        *("RunStarted", "NodesCached", "NodeStarted", "NodeFinished"),
        *("NodeStarted", "NodeOutput", "NodeFinished", "RunSucceeded"),
    ]
    [told] = [event for event in desk.events if event.kind == "NodeOutput"]
    [file] = told.files
    assert Path(file["path"]).read_text() == "hello"
    assert (file["filename"], file["type"]) == ("toy_00001_.txt", "output")
    assert ended.outputs == {"2": {"files": [{"filename": "toy_00001_.txt", "subfolder": "", "type": "output"}]}}


async def test_results_are_kept_from_run_to_run(engine: OwnEngine, tmp_path: Path) -> None:
    graph, again = workflow("Echo", text="once"), Desk()
    await engine.run(request(graph, tmp_path), Desk())
    await engine.run(request(graph, tmp_path, run=2), again)
    assert "NodeStarted" not in again.kinds


async def test_a_retracted_run_leaves_no_files_to_answer_from(engine: OwnEngine, tmp_path: Path) -> None:
    graph, again = workflow("Echo", text="once"), Desk()
    await engine.run(request(graph, tmp_path), Desk())
    await engine.retract()
    await engine.run(request(graph, tmp_path, run=2), again)
    assert again.kinds.count("NodeStarted") == 1  # the output node alone


async def test_free_drops_every_result(engine: OwnEngine, tmp_path: Path) -> None:
    graph = workflow("Echo", text="once")
    await engine.run(request(graph, tmp_path), Desk())
    await engine.free(unload_models=False, free_memory=True)
    desk = Desk()
    await engine.run(request(graph, tmp_path, run=2), desk)
    assert desk.kinds.count("NodeStarted") == 2


async def test_inputs_are_read_from_the_paths_that_came_with_the_run(engine: OwnEngine, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("from a file")
    desk = Desk()
    graph = workflow("Read", name="a.txt")
    ended = await engine.run(request(graph, tmp_path, inputs={"a.txt": str(tmp_path / "in.txt")}), desk)
    assert ended.outcome == "succeeded"
    [file] = next(event for event in desk.events if event.kind == "NodeOutput").files
    assert Path(file["path"]).read_text() == "from a file"


async def test_a_refused_name_is_the_fault_of_the_node_that_asked(engine: OwnEngine, tmp_path: Path) -> None:
    ended = await engine.run(request(workflow("Echo", save={"prefix": "taken"}), tmp_path), Desk())
    assert ended.outcome == "failed"
    assert ended.end["node"]["id"] == "2"
    assert "that prefix is taken" in ended.end["exception_message"]


async def test_what_a_node_raises_ends_the_run_and_not_the_engine(engine: OwnEngine, tmp_path: Path) -> None:
    ended = await engine.run(request(workflow("Fail"), tmp_path), Desk())
    assert (ended.outcome, ended.end["code"], ended.end["retryable"]) == ("failed", "not_found", False)
    assert engine.alive


@pytest.mark.parametrize("how", ["exit", "raise", "generator"])
async def test_a_node_that_would_end_the_process_fails_and_the_next_run_is_fine(
    engine: OwnEngine, tmp_path: Path, how: str
) -> None:
    ended = await engine.run(request(workflow("Leave", how=how), tmp_path), Desk())
    assert (ended.outcome, ended.end["node"]["id"], ended.end["node_type"]) == ("failed", "1", "Leave")
    assert (await engine.run(request(workflow("Echo"), tmp_path, run=2), Desk())).outcome == "succeeded"


@pytest.mark.parametrize("kind", ["Chatter", "Hoard"])
async def test_a_node_that_prints_or_hoards_harms_neither_its_run_nor_the_next(
    engine: OwnEngine, tmp_path: Path, kind: str
) -> None:
    for run in (1, 2):
        ended = await engine.run(request(workflow(kind), tmp_path, run=run), Desk())
        assert ended.outcome == "succeeded"
        await engine.free(unload_models=False, free_memory=True)
    assert (await engine.run(request(workflow("Echo"), tmp_path, run=3), Desk())).outcome == "succeeded"


async def test_an_async_node_that_waits_for_ever_hears_an_interrupt(engine: OwnEngine, tmp_path: Path) -> None:
    desk = Desk()
    run = asyncio.create_task(engine.run(request(workflow("Wait"), tmp_path), desk))
    await desk.started.wait()
    await engine.interrupt()
    ended = await run
    assert (ended.outcome, ended.end["node"]["id"]) == ("interrupted", "1")
    assert engine.alive


async def test_what_a_pack_says_and_what_is_blocked_is_told_and_the_run_succeeds(
    engine: OwnEngine, tmp_path: Path
) -> None:
    desk = Desk()
    ended = await engine.run(request(workflow("Tell"), tmp_path), desk)
    assert (ended.outcome, ended.end.get("code")) == ("succeeded", None)
    told = {event.kind: event.data for event in desk.events}
    node = {"id": "1", "display": "1", "parent": None, "real": "1"}
    assert told["TextShown"] == {"node": node, "text": "shown"}
    assert told["PackEvent"] == {"name": "pack.done", "data": {"a": 1}, "everyone": True}
    assert told["NodeBlocked"] == {
        "node": {"id": "2", "display": "2", "parent": None, "real": "2"},
        "node_type": "Save",
        "message": "no further",
        "executed": ["1"],
    }


async def test_a_workflow_that_is_none_ends_the_run_and_not_the_engine(engine: OwnEngine, tmp_path: Path) -> None:
    ended = await engine.run(request({"1": "no node"}, tmp_path), Desk())
    assert (ended.outcome, ended.end["code"]) == ("failed", "invalid_workflow")
    assert engine.alive


async def test_an_interrupt_stops_the_run_at_its_next_step(engine: OwnEngine, tmp_path: Path) -> None:
    desk = Desk()
    run = asyncio.create_task(engine.run(request(workflow("Steps", count=LONG), tmp_path), desk))
    await desk.stepped.wait()
    await engine.interrupt()
    ended = await run
    assert ended.outcome == "interrupted"
    assert ended.end["node"]["id"] == "1"
    assert engine.alive


async def test_a_run_that_was_interrupted_before_it_began_does_nothing(engine: OwnEngine, tmp_path: Path) -> None:
    desk = Desk()
    ended = await engine.run(request(workflow("Steps", count=LONG), tmp_path, interrupted=True), desk)
    assert ended.outcome == "interrupted"
    assert "StepDone" not in desk.kinds


async def test_an_interrupt_of_one_run_leaves_the_next_alone(engine: OwnEngine, tmp_path: Path) -> None:
    await engine.interrupt()
    ended = await engine.run(request(workflow("Steps", count=3), tmp_path), Desk())
    assert ended.outcome == "succeeded"


async def test_a_deaf_node_costs_the_engine_its_life_and_the_run_counts_as_interrupted(
    engine: OwnEngine, tmp_path: Path
) -> None:
    desk = Desk()
    run = asyncio.create_task(engine.run(request(workflow("Deaf"), tmp_path), desk))
    await desk.stepped.wait()
    await engine.interrupt()
    ended = await run
    assert ended == RunEnded(
        outcome="interrupted", end={"node": ended.end["node"], "node_type": "Deaf", "executed": []}
    )
    assert not engine.alive
    await engine.start()
    assert (await engine.run(request(workflow("Echo"), tmp_path, run=2), Desk())).outcome == "succeeded"


async def test_a_lost_engine_says_where_it_was_lost(engine: OwnEngine, tmp_path: Path) -> None:
    with pytest.raises(EngineLost, match=r"while node 1 \(Die\) ran: it ended with exit code 7"):
        await engine.run(request(workflow("Die"), tmp_path), Desk())
    assert not engine.alive


@pytest.mark.parametrize("detached", [False, True])
async def test_a_process_that_a_node_left_behind_does_not_hide_the_end_of_the_engine(
    engine: OwnEngine, tmp_path: Path, detached: bool
) -> None:
    desk = Desk()
    with pytest.raises(EngineLost, match="SIGKILL"):
        async with asyncio.timeout(10):
            await engine.run(request(workflow("Orphan", detached=detached), tmp_path), desk)
    [pid] = [event.data["text"] for event in desk.events if event.kind == "Warned"]
    if detached:
        psutil.Process(int(pid)).kill()
    async with asyncio.timeout(10):
        while psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.01)


async def test_a_run_is_interrupted_while_the_engine_still_imports_libraries(tmp_path: Path) -> None:
    engine = OwnEngine([*TOY, "--busy"], grace_seconds=60)
    await engine.start()
    desk = Desk()
    async with asyncio.timeout(10):
        while engine.info.digest != "busy":
            await asyncio.sleep(0.001)
        run = asyncio.create_task(engine.run(request(workflow("Steps", count=LONG), tmp_path), desk))
        await asyncio.sleep(0)  # the run is on its way
        await engine.interrupt()
        ended = await run
    assert (ended.outcome, desk.kinds[0]) == ("interrupted", "RunStarted")
    await engine.close()


async def test_an_engine_that_stopped_is_not_killed_because_its_news_take_long(
    engine: OwnEngine, tmp_path: Path
) -> None:
    desk = Desk()
    desk.slow = asyncio.Event()
    run = asyncio.create_task(engine.run(request(workflow("Steps", count=LONG), tmp_path), desk))
    await desk.stepped.wait()
    await engine.interrupt()
    async with asyncio.timeout(10):
        while engine._killer is not None:
            await asyncio.sleep(0.001)
    desk.slow.set()
    assert (await run).outcome == "interrupted"
    assert engine.alive


async def test_nodes_run_in_what_the_engine_wants_them_to_run_in(engine: OwnEngine, tmp_path: Path) -> None:
    desk = Desk()
    await engine.run(request(workflow("Inside"), tmp_path), desk)
    [file] = next(event for event in desk.events if event.kind == "NodeOutput").files
    assert Path(file["path"]).read_text() == "inside"


async def test_previews_are_made_only_when_somebody_watches(engine: OwnEngine, tmp_path: Path) -> None:
    blind, seeing = Desk(), Desk()
    await engine.run(request(workflow("Steps", count=2), tmp_path), blind)
    await engine.run(request(workflow("Steps", count=3), tmp_path, run=2, previews=True), seeing)
    assert "PreviewReady" not in blind.kinds
    assert [event.picture for event in seeing.events if event.kind == "PreviewReady"] == [b"picture"] * 3


async def test_a_fault_on_our_side_stops_the_run_and_spares_the_engine(engine: OwnEngine, tmp_path: Path) -> None:
    desk = Desk()
    desk.fault = Unavailable("the store is away")
    with pytest.raises(Unavailable):
        await engine.run(request(workflow("Echo"), tmp_path), desk)
    assert (await engine.run(request(workflow("Echo"), tmp_path, run=2), Desk())).outcome == "succeeded"


async def test_the_engine_process_gets_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_NATS_URL", "nats://secret@127.0.0.1")
    engine = OwnEngine(TOY)
    await engine.start()
    assert engine.info.devices == []  # the toy tells the LIMNER_ variables that it sees
    await engine.close()


async def test_an_engine_that_cannot_load_says_why() -> None:
    engine = OwnEngine([*TOY, "--broken"])
    with pytest.raises(EngineLost, match="no libraries here"):
        await engine.start()
    await engine.close()


async def test_an_engine_that_never_gets_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "START_SECONDS", 0.3)
    monkeypatch.setattr(own, "START_NEWS_SECONDS", 0.1)
    engine = OwnEngine([sys.executable, "-c", "import time; time.sleep(60)"])
    with capture_logs() as lines, pytest.raises(EngineLost, match="not ready after"):
        await engine.start()
    assert "the engine still loads" in [line["event"] for line in lines]
    await engine.close()


async def test_the_engine_ends_with_its_supervisor() -> None:
    code = "import asyncio, sys; from limner.worker.engines.own import OwnEngine\n"
    code += "async def main():\n e = OwnEngine(sys.argv[1:]); await e.start(); print(e._process.pid, flush=True)\n"
    code += " await asyncio.sleep(60)\nasyncio.run(main())"
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *TOY, stdout=asyncio.subprocess.PIPE, env={**os.environ}
    )
    assert supervisor.stdout is not None
    engine = psutil.Process(int(await supervisor.stdout.readline()))
    supervisor.kill()
    await supervisor.wait()
    gone, _ = await asyncio.to_thread(psutil.wait_procs, [engine], 10)
    assert gone


async def test_a_start_that_is_broken_off_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()

    async def hang(*_: object, **__: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", hang)
    process, engine = psutil.Process(), OwnEngine(TOY)
    open_before = process.num_fds()
    start = asyncio.create_task(engine.start())
    await begun.wait()
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert process.num_fds() == open_before


async def test_a_request_to_a_node_pack_is_answered_while_a_workflow_runs(engine: OwnEngine, tmp_path: Path) -> None:
    desk = Desk()
    running = asyncio.create_task(engine.run(request(workflow("Steps", count=LONG), tmp_path), desk))
    await desk.stepped.wait()
    told, body = await engine.route({"path": "/x", "headers": [["X-Told", "yes"]]}, b"body")
    assert (told["status"], told["headers"], body) == (200, [["X-Told", "yes"]], b"BODY")
    await engine.interrupt()
    assert (await running).outcome == "interrupted"


@pytest.mark.parametrize("path", ["/dies", "/says-nothing"])
async def test_an_engine_that_does_not_answer_for_a_node_pack_is_told(
    engine: OwnEngine, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "/says-nothing":
        monkeypatch.setattr(own, "ROUTE_SECONDS", 0.1)
    told, _ = await engine.route({"path": path, "headers": []}, b"")
    assert (told["status"], told["fault"][0]) == (503, "dependency_unavailable")


async def test_an_engine_that_is_not_up_answers_no_node_packs_request(engine: OwnEngine) -> None:
    await engine.close()
    told, _ = await engine.route({"path": "/x", "headers": []}, b"")
    assert (told["status"], told["fault"][0]) == (503, "dependency_unavailable")
