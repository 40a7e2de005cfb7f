"""What a second engine brings into a worker's turns: names of its own, jobs that it cannot run, refusals, sickness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from limner.bus import subjects
from limner.bus.messages import Claimed, Control
from limner.enginehost.protocol import RunRequest
from limner.errors import LimnerError
from limner.worker import elsewhere, loop
from limner.worker.engines.port import EngineEvent, EngineLost, Named, RunEnded, Sink
from limner.worker.quarantine import FIRST_SECONDS_ELSE, JOBS, SICK
from tests.unit.worker.stage import FAILED_END, INFO, NODE, FakeEngine, Stage, be_lost, succeed

REFUSAL = {"error": {"type": "prompt_outputs_failed_validation"}, "node_errors": {"1": {"errors": []}}}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def failing(code: str, outcome: str = "failed", **more: Any) -> Callable[..., Any]:
    async def fail(engine: FakeEngine, request: RunRequest, sink: Sink) -> RunEnded:
        return RunEnded(outcome=outcome, end=FAILED_END | {"code": code, "retryable": code in SICK} | more)

    return fail


async def save_one_under_its_own_name(engine: FakeEngine, request: RunRequest, sink: Sink) -> RunEnded:
    [name] = await sink.keep([Named(subfolder="s", filename="x.png", sha256="1" * 64)])
    path = Path(request.folder) / "1.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"picture")
    file = {"path": str(path), "type": "output", "filename": name["filename"], "subfolder": name["subfolder"]}
    await sink.event(EngineEvent(kind="NodeOutput", data={"node": NODE, "ui": {}}, files=[file]))
    return replace(await succeed(engine, request, sink), files=[file])


async def test_a_file_that_the_engine_has_named_is_stored_under_the_name_that_it_gets(stage: Stage) -> None:
    stage.engine.script = save_one_under_its_own_name
    await stage.submit()
    done = await stage.ended()
    assert [(file["filename"], file["subfolder"], file["key"]) for file in done.files] == [
        ("kept x.png", "s", stage.kept_key)
    ]
    assert await stage.blobs.get(str(stage.kept_key)) == b"picture"
    await stage.tokens_left(0)
    assert (stage.output / "s" / "kept x.png").read_bytes() == b"picture"


async def test_bytes_that_the_tenant_has_already_are_not_stored_again(stage: Stage) -> None:
    stage.kept_key = ""
    stage.engine.script = save_one_under_its_own_name
    await stage.submit()
    done = await stage.ended()
    assert (done.outcome, done.files) == ("succeeded", [])
    assert await stage.blobs.list("t/default/") == []


async def test_a_name_that_no_gateway_takes_ends_the_run(stage: Stage) -> None:
    stage.kept_key = None
    stage.engine.script = save_one_under_its_own_name
    await stage.submit()
    done = await stage.ended()
    assert done.error is not None
    assert (done.outcome, done.error["exception_message"]) == ("failed", "a bad name\n")


async def test_the_engine_may_forget_a_run_whose_end_was_accepted(stage: Stage) -> None:
    await stage.submit()
    await stage.tokens_left(0)
    assert stage.engine.accepted_runs == 1


@pytest.mark.parametrize("code", ["worker_lost", "dependency_unavailable"])
async def test_the_engine_keeps_a_run_that_is_tried_again(stage: Stage, code: str) -> None:
    """The next attempt may only have to fetch what this one could not."""
    stage.engine.script = failing(code, retryable=True)
    await stage.submit()
    assert (await stage.ended()).error is not None
    await stage.tokens_left(0)
    assert stage.engine.accepted_runs == 0


async def test_the_run_bears_the_jobs_id_and_its_token(stage: Stage) -> None:
    await stage.submit()
    await stage.ended()
    [request] = stage.engine.requests
    assert (request.job, request.token, request.resumed) == ("job", "t1", False)


async def test_a_job_whose_nodes_the_engine_lacks_is_for_another_worker(stage: Stage) -> None:
    await until(lambda: stage.engine.alive)
    stage.engine.info = replace(INFO, catalogue={"nodes": {"Known": {}}})
    workflow = {"1": {"class_type": "Known"}, "2": {"class_type": "Foreign"}}
    stage.claim_answer = replace(stage.claim_answer, workflow=workflow)
    await stage.submit()
    done = await stage.ended()
    assert done.error is not None
    assert (done.outcome, done.catalogue) == ("unfit", "abc")
    assert (done.error["code"], done.error["retryable"]) == ("unfit_worker", False)
    assert (done.error["node_id"], done.error["node_type"]) == ("2", "Foreign")
    assert "Foreign" in done.error["exception_message"]
    assert done.messages[-1][0] == "execution_error"
    assert stage.engine.requests == []
    await stage.tokens_left(0)


async def test_what_the_engine_itself_cannot_run_is_for_another_worker_too(stage: Stage) -> None:
    stage.engine.script = failing("unfit_worker", "unfit", refusal=REFUSAL)
    await stage.submit()
    done = await stage.ended()
    assert done.outcome == "unfit"
    assert done.error is not None
    assert (done.error["error"], done.error["node_errors"]) == (REFUSAL["error"], REFUSAL["node_errors"])


async def test_a_refusal_is_told_in_the_engines_own_words(stage: Stage) -> None:
    stage.engine.script = failing("workflow_refused", refusal={**REFUSAL, "node_id": "not from there"})
    await stage.submit()
    done = await stage.ended()
    name, told = done.messages[-1]
    assert (name, told["error"], told["node_errors"]) == ("execution_error", *REFUSAL.values())
    assert told["node_id"] == "1"
    assert done.error == {**told, "code": "workflow_refused", "retryable": False}


async def test_a_fault_of_our_own_ends_the_job_and_not_the_worker(stage: Stage) -> None:
    async def stumble(engine: FakeEngine, request: RunRequest, sink: Sink) -> RunEnded:
        raise KeyError("exec_info")

    stage.engine.script = stumble
    await stage.submit()
    done = await stage.ended()
    assert done.error is not None
    assert (done.outcome, done.error["code"], done.error["retryable"]) == ("failed", "internal", False)
    assert "KeyError: 'exec_info'" in done.error["exception_message"]
    stage.engine.script = succeed
    await stage.submit("next")
    assert (await stage.ended()).outcome == "succeeded"


async def test_a_token_for_another_worker_is_given_back_for_a_while(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "SHORTEST_SECONDS", 0.01)
    monkeypatch.setattr(loop, "POLL_SECONDS", 0.01)
    stage.claim_answer = Claimed(ok=False, reason="this worker cannot run the job", elsewhere=True)
    await stage.submit()
    await until(lambda: len(stage.claims) >= 3)
    assert {claim.catalogue for claim in stage.claims} == {"abc"}
    assert len({claim.delivery for claim in stage.claims}) >= 3, "each time it was delivered anew"
    assert await stage.bus.pending("default") == {"job": "any"}


async def states(stage: Stage) -> list[str]:
    return [beat.state for beat in await stage.bus.workers()]


async def fail_in_a_row(stage: Stage) -> None:
    stage.engine.script = failing("worker_lost")
    for number in range(JOBS):
        await stage.submit(f"job {number}")
        await stage.ended()


async def test_a_worker_whose_jobs_fail_in_a_row_renews_its_engine_and_stands_aside(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "POLL_SECONDS", 0.01)
    await fail_in_a_row(stage)
    stage.engine.script = succeed
    await stage.submit("good")
    async with asyncio.timeout(10):
        while await states(stage) != ["quarantined"]:
            await asyncio.sleep(0.001)
    assert stage.engine.calls.count("renew") == 1
    assert stage.done.empty()
    stage.now += FIRST_SECONDS_ELSE
    done = await stage.ended()
    assert (done.id, done.outcome) == ("good", "succeeded")
    async with asyncio.timeout(10):
        while await states(stage) != ["idle"]:
            await asyncio.sleep(0.001)


async def test_a_worker_stops_also_while_it_stands_aside(stage: Stage) -> None:
    await fail_in_a_row(stage)
    await until(lambda: "renew" in stage.engine.calls)
    await stage.close()


async def test_an_engine_that_cannot_be_renewed_does_not_end_the_worker(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "POLL_SECONDS", 0.01)
    tried = asyncio.Event()

    async def renew() -> None:
        tried.set()
        raise EngineLost("it does not answer")

    monkeypatch.setattr(stage.engine, "renew", renew)
    await fail_in_a_row(stage)
    await asyncio.wait_for(tried.wait(), 10)
    stage.engine.script = succeed
    stage.now += FIRST_SECONDS_ELSE
    await stage.submit("good")
    assert (await stage.ended()).outcome == "succeeded"


async def test_a_job_that_ran_out_of_memory_leaves_none_of_it_taken(stage: Stage) -> None:
    stage.engine.script = failing("out_of_memory")
    await stage.submit()
    await stage.ended()
    await until(lambda: "free True True" in stage.engine.calls)


async def test_what_the_engine_could_forget_and_does_not_is_no_fault(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def accepted() -> None:
        raise LimnerError("it does not answer")

    monkeypatch.setattr(stage.engine, "accepted", accepted)
    await stage.submit()
    await stage.ended()
    await stage.tokens_left(0)


async def order_of(stage: Stage, *jobs: tuple[str, str], before: Callable[[], Any] | None = None) -> list[str]:
    """In which order jobs of (id, lane) run that wait behind one of lane "a"."""
    gate = asyncio.Event()

    async def wait(engine: FakeEngine, request: RunRequest, sink: Sink) -> RunEnded:
        engine.running.set()
        await gate.wait()
        return await succeed(engine, request, sink)

    stage.engine.script = wait
    await stage.submit("first", lane="a")
    await stage.engine.running.wait()
    for job, lane in jobs:
        await stage.submit(job, lane=lane)
    if before is not None:
        await before()
    gate.set()
    return [(await stage.ended()).id for _ in range(len(jobs) + 1)][1:]


async def test_jobs_that_share_their_models_with_the_last_one_come_first(stage: Stage) -> None:
    assert await order_of(stage, ("b1", "b"), ("a1", "a"), ("a2", "a")) == ["a1", "a2", "b1"]


async def test_an_engine_whose_memory_was_freed_takes_the_oldest_job(stage: Stage) -> None:
    async def free() -> None:
        control = Control(kind="free", unload_models=True, free_memory=True)
        await stage.bus.publish(subjects.control("w"), control.encode())

    order = await order_of(stage, ("b1", "b"), ("a1", "a"), before=free)
    assert order == ["b1", "a1"]


async def test_a_lost_engine_is_warm_for_nothing(stage: Stage) -> None:
    stage.engine.script = be_lost
    await stage.submit("lost", lane="a")
    await stage.ended()
    await until(lambda: stage.engine.starts == 2)
    assert await order_of(stage, ("b1", "b")) == ["b1"]
    assert stage.worker._warm.lanes == ("b",)


async def test_heartbeats_tell_who_and_what_the_worker_is(stage: Stage) -> None:
    await until(lambda: stage.engine.alive)
    stage.engine.info = replace(INFO, kind="comfyui", version="0.3.64", ram_total=8, ram_free=4)
    stage.worker.engine_changed(stage.engine.info)
    async with asyncio.timeout(10):
        while not [beat for beat in await stage.bus.workers() if beat.engine_version]:
            await asyncio.sleep(0.001)
    [beat] = await stage.bus.workers()
    assert (beat.engine, beat.engine_version, beat.ram_total, beat.ram_free) == ("comfyui", "0.3.64", 8, 4)
    assert beat.incarnation
