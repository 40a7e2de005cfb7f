"""The supervisor's work over a bus in memory, with an engine that does as it is told."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from limner.bus import subjects
from limner.bus.messages import Claimed, Control, Live, Settled
from limner.enginehost.protocol import RunRequest
from limner.worker import gateway
from limner.worker.engines.port import EngineEvent, RunEnded, Sink
from tests.unit.worker.stage import (
    INFO,
    NODE,
    FakeEngine,
    Stage,
    be_lost,
    save_one,
    save_one_and_fail,
    save_one_and_wait,
    succeed,
    wait_for_interrupt,
)


async def test_a_job_is_claimed_run_reported_and_its_token_acknowledged(stage: Stage) -> None:
    await stage.submit()
    done = await stage.ended()
    assert (done.id, done.token, done.outcome, done.outputs, done.models) == (
        "job",
        "t1",
        "succeeded",
        {"2": {}},
        ["m"],
    )
    assert done.messages == [
        ["execution_start", {"prompt_id": "p", "timestamp": 1}],
        ["execution_cached", {"prompt_id": "p", "nodes": ["1"], "timestamp": 2}],
        ["execution_success", {"prompt_id": "p", "timestamp": 3}],
    ]
    await stage.tokens_left(0)


async def test_events_are_numbered_and_the_report_tells_the_last_number(stage: Stage) -> None:
    await stage.submit()
    done = await stage.ended()
    assert [(live.seq, live.kind, live.attempt, live.client_id) for live in stage.live] == [
        (1, "RunStarted", 1, "c"),
        (2, "NodesCached", 1, "c"),
    ]
    assert done.last_seq == 2


async def test_who_hears_of_a_file_finds_its_bytes(stage: Stage) -> None:
    there: list[int | None] = []

    async def look(subject: str, body: bytes) -> None:
        if Live.decode(body).kind == "NodeOutput":
            there.append(await stage.blobs.size("t/default/jobs/job/t1/0.png"))

    await stage.bus.subscribe("limner.ev.>", look)
    stage.engine.script = save_one
    await stage.submit()
    done = await stage.ended()
    assert there == [7]
    assert [file["filename"] for file in done.files] == ["x_00001_.png"]


async def test_lost_answers_are_asked_for_again_as_the_same_claim_and_the_same_report(stage: Stage) -> None:
    stage.faults += ["claim", "claim", "done"]
    await stage.submit()
    done = await stage.ended()
    assert done.outcome == "succeeded"
    assert len({claim.delivery for claim in stage.claims}) == 1
    assert len(stage.claims) == 3
    await stage.tokens_left(0)


async def test_a_refused_claim_is_forgotten(stage: Stage) -> None:
    stage.claim_answer = Claimed(ok=False, reason="the job was canceled")
    await stage.submit()
    await stage.tokens_left(0)
    assert stage.done.empty()


async def test_a_refused_report_takes_the_results_back_and_leaves_the_token(stage: Stage) -> None:
    stage.settled = Settled(ok=False, reason="another attempt has begun")
    await stage.submit()
    await stage.ended()
    async with asyncio.timeout(5):
        while "retract" not in stage.engine.calls:
            await asyncio.sleep(0.001)
    assert await stage.bus.pending("default") == {"job": "any"}


async def test_outputs_are_in_the_readable_folder_before_the_token_goes(stage: Stage) -> None:
    stage.engine.script = save_one
    await stage.submit()
    await stage.tokens_left(0)
    assert (stage.output / "s" / "x_00001_.png").read_bytes() == b"picture"
    assert stage.engine.calls == []


async def test_an_attempt_that_lost_its_job_leaves_the_readable_folder_alone(stage: Stage) -> None:
    stage.settled = Settled(ok=False, reason="another attempt has begun")
    stage.engine.script = save_one
    await stage.submit()
    async with asyncio.timeout(5):
        while "retract" not in stage.engine.calls:
            await asyncio.sleep(0.001)
    assert not stage.output.exists()


@pytest.mark.parametrize(("retryable", "calls"), [(True, ["retract"]), (False, [])])
async def test_what_an_attempt_saved_is_saved_anew_by_the_next_one(
    stage: Stage, retryable: bool, calls: list[str]
) -> None:
    stage.engine.script, stage.engine.retryable = save_one_and_fail, retryable
    await stage.submit()
    await stage.ended()
    await stage.tokens_left(0)
    assert stage.engine.calls == calls


async def test_what_a_returned_job_saved_is_saved_anew_and_not_shown(stage: Stage) -> None:
    stage.engine.script = save_one_and_wait
    await stage.submit()
    await stage.engine.running.wait()
    await stage.worker.drain()
    assert (await stage.ended()).outcome == "returned"
    await stage.tokens_left(0)
    assert stage.engine.calls == ["retract"]
    assert not stage.output.exists()


async def test_what_an_interrupted_job_saved_is_its_own(stage: Stage) -> None:
    stage.engine.script = save_one_and_wait
    await stage.submit()
    await stage.engine.running.wait()
    await stage.bus.publish(subjects.control("w"), Control(kind="interrupt", id="job", token="t1").encode())
    assert [file["filename"] for file in (await stage.ended()).files] == ["x_00001_.png"]
    await stage.tokens_left(0)
    assert stage.engine.calls == []
    assert (stage.output / "s" / "x_00001_.png").exists()


async def test_a_lost_engine_is_a_failure_worth_another_try_and_is_started_again(stage: Stage) -> None:
    stage.engine.script = be_lost
    await stage.submit()
    done = await stage.ended()
    assert done.outcome == "failed"
    assert done.error is not None
    assert (done.error["code"], done.error["retryable"], done.error["node_id"]) == ("worker_lost", True, "1")
    stage.engine.script = succeed
    await stage.submit("next")
    assert (await stage.ended()).outcome == "succeeded"
    assert stage.engine.starts == 2


async def test_a_report_that_no_bus_takes_becomes_a_failure(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "MAX_MESSAGE_BYTES", 0)
    stage.faults += ["done"]
    await stage.submit()
    done = await stage.ended()
    assert (done.outcome, done.outputs) == ("failed", {})
    assert done.error is not None
    assert (done.error["code"], done.error["prompt_id"]) == ("payload_too_large", "p")
    assert stage.engine.calls == ["retract"]


async def test_a_full_disk_is_worth_another_try(stage: Stage) -> None:
    async def fill(engine: FakeEngine, request: RunRequest, sink: Sink) -> RunEnded:
        raise OSError(28, "No space left on device")

    stage.engine.script = fill
    await stage.submit()
    done = await stage.ended()
    assert done.error is not None
    assert (done.error["code"], done.error["retryable"]) == ("dependency_unavailable", True)


async def test_an_interrupt_is_for_the_running_attempt_alone(stage: Stage) -> None:
    stage.engine.script = wait_for_interrupt
    await stage.submit()
    await stage.engine.running.wait()
    for token in ("t0", "t1"):
        control = Control(kind="interrupt", id="job", token=token)
        await stage.bus.publish(subjects.control("w"), control.encode())
    done = await stage.ended()
    assert done.outcome == "interrupted"
    assert done.messages == [
        ["execution_interrupted", {"prompt_id": "p", "node_id": "1", "node_type": "K", "executed": [], "timestamp": 3}]
    ]


async def test_controls_that_are_faster_than_the_claims_answer_are_heard(stage: Stage) -> None:
    stage.early = [Control(kind="watch", id="job", token="t1"), Control(kind="interrupt", id="job", token="t1")]
    stage.engine.script = wait_for_interrupt
    await stage.submit()
    assert (await stage.ended()).outcome == "interrupted"
    [request] = stage.engine.requests
    assert (request.previews, request.interrupted) == (True, True)


async def test_an_early_interrupt_of_another_attempt_is_not_for_this_one(stage: Stage) -> None:
    stage.early = [Control(kind="interrupt", id="job", token="t0")]
    await stage.submit()
    assert (await stage.ended()).outcome == "succeeded"


async def test_a_nodes_warning_is_a_line_in_the_log(stage: Stage) -> None:
    async def warn(engine: FakeEngine, request: RunRequest, sink: Sink) -> RunEnded:
        await sink.event(EngineEvent(kind="Warned", data={"node": NODE, "text": "an odd size"}))
        return await succeed(engine, request, sink)

    stage.engine.script = warn
    with capture_logs() as lines:
        await stage.submit()
        await stage.ended()
    [line] = [line for line in lines if line["event"] == "a node warns"]
    assert (line["log_level"], line["job_id"], line["node_id"], line["text"]) == ("warning", "job", "1", "an odd size")


async def test_a_worker_that_stops_while_no_gateway_gives_names_returns_its_job(stage: Stage) -> None:
    stage.faults += ["reserve"] * 10_000
    stage.engine.script = save_one
    await stage.submit()
    async with asyncio.timeout(5):
        while not stage.reserves:
            await asyncio.sleep(0.001)
    await stage.worker.drain()
    assert (await stage.ended()).outcome == "returned"


async def test_a_worker_that_stops_before_its_claim_is_answered_returns_the_job(stage: Stage) -> None:
    stage.faults += ["claim"] * 10_000
    stage.engine.script = wait_for_interrupt
    await stage.submit()
    async with asyncio.timeout(5):
        while not stage.claims:
            await asyncio.sleep(0)
    await stage.worker.drain()
    stage.faults.clear()
    assert (await stage.ended()).outcome == "returned"
    assert len({claim.delivery for claim in stage.claims}) == 1


async def test_a_worker_that_stops_gives_its_job_back(stage: Stage) -> None:
    stage.engine.script = wait_for_interrupt
    await stage.submit()
    await stage.engine.running.wait()
    await stage.worker.drain()
    assert (await stage.ended()).outcome == "returned"
    assert stage.task is not None
    await asyncio.wait_for(asyncio.shield(stage.task), 10)


async def test_a_worker_that_stops_where_no_gateway_answers_gives_its_token_back(stage: Stage) -> None:
    stage.faults += ["done"] * 10_000
    await stage.submit()
    async with asyncio.timeout(5):
        while len(stage.faults) > 9_998:
            await asyncio.sleep(0.001)
    await stage.worker.drain()
    assert stage.task is not None
    await asyncio.wait_for(asyncio.shield(stage.task), 10)
    assert await stage.bus.pending("default") == {"job": "any"}


async def test_the_catalogue_is_offered_by_its_digest_and_sent_when_wanted(stage: Stage) -> None:
    stage.worker.engine_changed(INFO)
    async with asyncio.timeout(5):
        first, second = await stage.offers.get(), await stage.offers.get()
    assert (first.digest, first.catalogue) == ("abc", None)
    assert second.catalogue == INFO.catalogue


async def test_the_worker_is_shown_while_it_lives(stage: Stage) -> None:
    stage.worker.engine_changed(INFO)
    async with asyncio.timeout(5):
        while [beat.state for beat in await stage.bus.workers()] != ["idle"]:
            await asyncio.sleep(0.001)
    await stage.close()
    assert await stage.bus.workers() == []


async def test_free_and_watch_reach_the_engine(stage: Stage) -> None:
    stage.engine.script = wait_for_interrupt
    await stage.submit()
    await stage.engine.running.wait()
    free = Control(kind="free", unload_models=True, free_memory=False)
    for control in (free, Control(kind="watch", id="job", token="t1"), Control(kind="watch", id="other", token="t1")):
        await stage.bus.publish(subjects.control("w"), control.encode())
    async with asyncio.timeout(5):
        while len(stage.engine.calls) < 2:
            await asyncio.sleep(0.001)
    assert stage.engine.calls == ["free True False", "watch True"]
