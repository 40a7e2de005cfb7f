"""ComfyEngine at a ComfyUI that fails in the middle of something: each run ends, with its bytes or with its cause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from limner.errors import LimnerError, Unavailable
from limner.worker.engines.port import EngineEvent, EngineLost, RunEnded
from tests.contract.comfyui.driving import Driven, RecordingSink, driving, files_of, recorded, sha256
from tests.support.replayer import Event, Replayer, Script
from tests.support.replayer.state import made_picture

EVENTS_OF_01 = 16


@pytest.fixture
async def driven(comfyui: Replayer, tmp_path: Path) -> AsyncIterator[Driven]:
    async with driving(comfyui, tmp_path) as one:
        yield one


def whole(driven: Driven, end: RunEnded) -> None:
    """The run of recording 01 ended with its picture."""
    assert end.outcome == "succeeded", end
    [(name, content)] = files_of(end, driven.sink).items()
    assert (name, sha256(content)[:16]) == ("anchor_00001_.png", "3755ff9b2072cd3a")
    assert end.outputs["4"]["images"] == [{"filename": name, "subfolder": "", "type": "output"}]


def told_once(sink: RecordingSink) -> None:
    """Nothing was told twice, whatever was heard twice."""
    for kind in ("RunStarted", "NodesCached", "NodeOutput"):
        assert len(sink.of(kind)) <= 1, sink.kinds
    finished = [event.data["node"]["id"] for event in sink.of("NodeFinished")]
    assert len(set(finished)) == len(finished), finished


# The socket


@pytest.mark.parametrize("after", range(1, EVENTS_OF_01 + 1, 3))
async def test_a_socket_that_breaks_anywhere_loses_nothing(comfyui: Replayer, driven: Driven, after: int) -> None:
    comfyui.faults.drop_sockets_after = after
    sink = RecordingSink()
    whole(driven, await driven.run(driven.request(recorded("01")), sink))
    told_once(sink)
    assert len(comfyui.ran) == 1


async def test_a_socket_that_breaks_comes_again_and_hears_the_rest(comfyui: Replayer, driven: Driven) -> None:
    comfyui.faults.drop_sockets_after = 6
    comfyui.faults.hold_after = 7
    running, sink = asyncio.create_task(driven.run(driven.request(recorded("60")), sink := RecordingSink())), sink
    [prompt] = await comfyui.until_ran(1)
    async with asyncio.timeout(10):
        while comfyui.sockets.opened.count(str(prompt.client)) < 2 or prompt.client not in comfyui.sockets.clients:
            await asyncio.sleep(0.01)
    comfyui.faults.release()
    assert (await running).outcome == "succeeded"
    assert sink.of("StepDone"), sink.kinds
    told_once(sink)


async def test_a_run_without_any_socket_is_followed_by_polling(comfyui: Replayer, tmp_path: Path) -> None:
    async with driving(comfyui, tmp_path) as driven:
        comfyui.wire.cut("/ws")
        comfyui.faults.refuse_sockets = 1000
        comfyui.faults.pace_seconds = 0.1
        whole(driven, await driven.run(driven.request(recorded("01"))))
        assert comfyui.count("GET", "/queue") + comfyui.count("GET", "/history/") < 30


async def test_a_socket_that_stays_open_and_says_nothing_holds_up_nothing(comfyui: Replayer, driven: Driven) -> None:
    comfyui.faults.mute_after = 3
    whole(driven, await driven.run(driven.request(recorded("01"))))


# The history


async def test_a_late_history_is_waited_for(comfyui: Replayer, driven: Driven) -> None:
    comfyui.faults.history_late = 4
    whole(driven, await driven.run(driven.request(recorded("01"))))


async def test_a_prompt_that_never_is_in_history_has_the_outputs_that_were_heard(
    comfyui: Replayer, driven: Driven
) -> None:
    comfyui.faults.history_never = True
    whole(driven, await driven.run(driven.request(recorded("01"))))


async def test_a_prompt_that_never_is_in_history_and_whose_end_nobody_heard_is_lost(
    comfyui: Replayer, driven: Driven
) -> None:
    comfyui.faults.history_never = True
    comfyui.faults.mute_after = 8
    with pytest.raises(EngineLost):
        await driven.run(driven.request(recorded("01")))


@pytest.mark.parametrize("path", ["/queue", "/history/", "/view", "/prompt", "/upload"])
async def test_single_errors_of_the_server_are_passed_over(
    comfyui: Replayer, driven: Driven, tmp_path: Path, path: str
) -> None:
    """Where it is not known whether a prompt or an upload was taken, the attempt may fail instead, retryable."""
    comfyui.faults.answers = {path: [500, 500]}
    comfyui.faults.drop_sockets_after = 5
    file = tmp_path / "in.png"
    file.write_bytes(made_picture("in"))
    body = recorded("30")
    end = await driven.run(driven.request(body, inputs={"up.png": str(file)}))
    if end.outcome != "succeeded":
        assert path in ("/prompt", "/upload")
        assert end.end["retryable"] is True


# The files


@pytest.mark.parametrize("cuts", [[0], [1], [600], [100, 300], [635]])
async def test_a_view_that_breaks_off_is_fetched_again(comfyui: Replayer, driven: Driven, cuts: list[int]) -> None:
    comfyui.faults.cut_views = cuts
    whole(driven, await driven.run(driven.request(recorded("01"))))


async def test_a_view_that_always_breaks_off_fails_the_attempt_and_not_the_job(
    comfyui: Replayer, driven: Driven
) -> None:
    comfyui.faults.cut_views = [10] * 100
    await retryable(driven.run(driven.request(recorded("01"))))
    assert comfyui.count("GET", "/view") < 20


async def test_a_slow_view_is_waited_for(comfyui: Replayer, driven: Driven) -> None:
    comfyui.faults.slow_view_seconds = 0.3
    whole(driven, await driven.run(driven.request(recorded("01"))))


async def test_a_file_that_is_not_there_is_warned_of(comfyui: Replayer, driven: Driven) -> None:
    comfyui.faults.answers = {"/view": [404] * 20}
    sink = RecordingSink()
    end = await driven.run(driven.request(recorded("01")), sink)
    assert (end.outcome, end.files) == ("succeeded", [])
    assert sink.of("Warned")


async def test_cached_results_whose_files_are_gone_are_made_again(comfyui: Replayer, driven: Driven) -> None:
    """Somebody has emptied the instance's output folder."""
    whole(driven, await driven.run(driven.request(recorded("01"))))
    comfyui.folders.files.clear()
    request = driven.request(recorded("01"))
    assert await retryable(driven.run(request)) == "worker_lost"
    assert comfyui.freed == [{"unload_models": False, "free_memory": True}]
    assert driven.engine.alive
    whole(driven, await driven.run(replace(request, token="the next attempt's")))
    assert len(comfyui.ran) == 3


@pytest.mark.parametrize("fault", [EngineLost("lost"), Unavailable("no gateway"), LimnerError("lease lost"), OSError()])
async def test_what_the_sink_raises_stops_the_prompt_and_comes_out(
    comfyui: Replayer, driven: Driven, fault: Exception
) -> None:
    class Refusing(RecordingSink):
        async def event(self, event: EngineEvent) -> None:
            raise fault

    comfyui.faults.hold_after = 6
    request = driven.request(recorded("24"))
    with pytest.raises(type(fault)):
        await driven.run(request, Refusing())
    assert set(comfyui.interrupts) == {request.job}
    assert comfyui.memory.running is None


async def test_a_stop_waits_for_no_large_file_and_restarts_nothing(comfyui: Replayer, tmp_path: Path) -> None:
    """The prompt is over; only its files are on their way."""
    comfyui.faults.slow_view_seconds = 60.0
    async with driving(comfyui, tmp_path, supervised=True, grace_seconds=0.3) as driven:
        running = asyncio.create_task(driven.run(request := driven.request(recorded("01"))))
        async with asyncio.timeout(10):
            while not comfyui.count("GET", "/view") or request.job not in comfyui.memory.history:
                await asyncio.sleep(0.01)
        began = time.monotonic()
        await driven.engine.interrupt()
        assert (await running).outcome == "interrupted"
        assert time.monotonic() - began < 5
        assert driven.restarts == 0
        assert driven.engine.alive
        comfyui.faults.slow_view_seconds = 0.0
        whole(driven, await driven.run(driven.request(recorded("01"))))


async def test_an_attempt_whose_files_did_not_come_is_finished_by_the_next_without_a_run(
    comfyui: Replayer, driven: Driven
) -> None:
    request = driven.request(recorded("01"))
    comfyui.faults.cut_views = [10] * 20
    await retryable(driven.run(request))
    comfyui.faults.cut_views = []
    await restarted(driven)
    whole(driven, await driven.run(replace(request, token="the next attempt's")))
    assert len(comfyui.ran) == 1


async def retryable(running: Any) -> str:
    """The run ends so that the job gets another attempt: by EngineLost, or as a failure that says so. Its code."""
    try:
        end = await running
    except LimnerError as error:
        if not error.retryable:
            raise
        return error.code
    assert (end.outcome, end.end["retryable"]) == ("failed", True), end
    return str(end.end["code"])


async def test_a_full_disk_at_an_upload_is_a_cause_of_its_own(
    comfyui: Replayer, driven: Driven, tmp_path: Path
) -> None:
    comfyui.faults.full_disk = True
    file = tmp_path / "in.png"
    file.write_bytes(made_picture("in"))
    code = await retryable(driven.run(driven.request(recorded("30"), inputs={"up.png": str(file)})))
    assert code == "disk_full"
    assert not comfyui.ran


UNKNOWN_KINDS: dict[str, Any] = {
    "gifs": [
        {"filename": "a.mp4", "subfolder": "video", "type": "output", "format": "video/h264-mp4", "frame_rate": 8}
    ],
    "audio": [{"filename": "b.flac", "subfolder": "", "type": "output"}],
    "something_new": [[{"filename": "c.xyz", "subfolder": "deep/er", "type": "output"}], 3, None],
    "nested": {"inner": {"filename": "d.latent", "subfolder": "", "type": "output"}},
    "previews": [{"filename": "e.png", "subfolder": "", "type": "temp"}],
    "text": ["no file"],
    "animated": [True],
}


async def test_files_of_any_kind_come_with_their_bytes(comfyui: Replayer, driven: Driven) -> None:
    files = {
        ("output", "video", "a.mp4"): b"video",
        ("output", "", "b.flac"): b"sound",
        ("output", "deep/er", "c.xyz"): b"?" * 3_000_000,
        ("output", "", "d.latent"): b"",
        ("temp", "", "e.png"): made_picture("e"),
    }
    comfyui.play(script("01").showing(UNKNOWN_KINDS, files))
    end = await driven.run(driven.request(recorded("01")))
    assert files_of(end, driven.sink) == {name: content for (_, _, name), content in files.items()}
    ui = end.outputs["4"]
    assert ui["gifs"] == UNKNOWN_KINDS["gifs"]
    assert ui["something_new"] == UNKNOWN_KINDS["something_new"]
    assert (ui["text"], ui["animated"]) == (["no file"], [True])
    files_told = [*end.files, *(file for event in driven.sink.events for file in event.files)]
    kinds = {each["filename"]: (each["subfolder"], each["type"]) for each in files_told}
    assert kinds["a.mp4"] == ("video", "output")
    assert kinds["e.png"][1] == "temp"


async def test_previews_in_temp_stay_there_if_nobody_wants_them(comfyui: Replayer, tmp_path: Path) -> None:
    ui = {"images": [{"filename": "e.png", "subfolder": "", "type": "temp"}]}
    comfyui.play(script("01").showing(ui, {("temp", "", "e.png"): made_picture("e")}))
    async with driving(comfyui, tmp_path, keep_temp=False) as driven:
        end = await driven.run(driven.request(recorded("01")))
        assert (end.outcome, end.files) == ("succeeded", [])
        assert comfyui.count("GET", "/view") == 0


def script(name: str) -> Script:
    return next(each for each in Replayer().library.scripts if each.name == name)


# The instance


@pytest.mark.parametrize("after", [1, 5, 9])
async def test_a_restart_in_mid_run_loses_the_run_soon_and_the_next_one_is_fine(
    comfyui: Replayer, driven: Driven, after: int
) -> None:
    comfyui.faults.hold_after = after
    running = asyncio.create_task(driven.run(driven.request(recorded("01"))))
    await begun(driven)
    began = time.monotonic()
    await comfyui.restart()
    comfyui.faults.release()
    with pytest.raises(EngineLost):
        await running
    assert time.monotonic() - began < 8
    await restarted(driven)
    whole(driven, await driven.run(driven.request(recorded("01"))))
    assert len(comfyui.ran) == 2


async def restarted(driven: Driven) -> None:
    """What the loop does between two jobs: an engine that is no longer alive is started again."""
    async with asyncio.timeout(15):
        while not driven.engine.alive:
            try:
                await driven.engine.start()
            except EngineLost:
                await asyncio.sleep(0.1)


async def test_an_instance_that_does_not_come_back_loses_the_run_and_is_not_alive(
    comfyui: Replayer, driven: Driven
) -> None:
    comfyui.faults.hold_after = 5
    running = asyncio.create_task(driven.run(driven.request(recorded("01"))))
    await begun(driven)
    await comfyui.crash()
    with pytest.raises(EngineLost) as lost:
        await running
    assert lost.value.retryable
    assert not driven.engine.alive
    with pytest.raises(EngineLost):
        async with asyncio.timeout(10):
            await driven.engine.start()
    await comfyui.come_back()
    comfyui.faults.release()
    await restarted(driven)
    whole(driven, await driven.run(driven.request(recorded("01"))))


async def test_a_restart_while_idle_costs_no_job(comfyui: Replayer, driven: Driven) -> None:
    whole(driven, await driven.run(driven.request(recorded("01"))))
    await comfyui.restart()
    await restarted(driven)
    whole(driven, await driven.run(driven.request(recorded("01"))))


async def test_an_instance_that_is_gone_while_idle_is_noticed(comfyui: Replayer, driven: Driven) -> None:
    await comfyui.crash()
    async with asyncio.timeout(20):
        while driven.engine.alive:
            await asyncio.sleep(0.02)
    await comfyui.come_back()
    await restarted(driven)


async def test_a_line_that_freezes_for_a_while_loses_nothing(comfyui: Replayer, driven: Driven) -> None:
    comfyui.faults.pace_seconds = 0.02
    running = asyncio.create_task(driven.run(driven.request(recorded("01"))))
    await comfyui.until_ran(1)
    comfyui.wire.freeze()
    await asyncio.sleep(1.5)
    comfyui.wire.thaw()
    whole(driven, await running)
    assert len(comfyui.ran) == 1


async def test_a_line_that_stays_frozen_loses_the_run(
    comfyui: Replayer, driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOOK_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(f"limner.worker.engines.comfyui.client.{name}", 0.5)
    comfyui.faults.hold_after = 5
    running = asyncio.create_task(driven.run(driven.request(recorded("01"))))
    await begun(driven)
    comfyui.wire.freeze()
    with pytest.raises(EngineLost):
        await running
    comfyui.wire.thaw()
    comfyui.faults.release()


async def begun(driven: Driven) -> None:
    """Waits until the run has told something: the instance has taken its prompt, and the engine knows it."""
    async with asyncio.timeout(10):
        while not driven.sink.events:
            await asyncio.sleep(0.005)


async def test_a_prompt_that_is_gone_from_the_queue_is_lost(comfyui: Replayer, driven: Driven) -> None:
    comfyui.faults.hold_after = 4
    await elses(comfyui)
    running = asyncio.create_task(driven.run(request := driven.request(recorded("01"))))
    await queued(comfyui, request.job)
    comfyui.lose(request.job)
    with pytest.raises(EngineLost):
        await running
    comfyui.faults.release()


async def elses(comfyui: Replayer, prompt_id: str = "somebody else's") -> None:
    """Somebody else's prompt, queued beside Limner."""
    async with httpx.AsyncClient(base_url=comfyui.url) as http:
        body = recorded("24") | {"client_id": "somebody else", "prompt_id": prompt_id}
        assert (await http.post("/prompt", json=body)).status_code == 200


async def queued(comfyui: Replayer, job: str) -> None:
    """Waits until the job's prompt waits in the instance's queue."""
    async with asyncio.timeout(10):
        while all((each.extra_data.get("limner") or {}).get("job") != job for each in comfyui.memory.pending):
            await asyncio.sleep(0.01)


async def test_prompts_of_others_are_waited_for_and_left_alone(comfyui: Replayer, driven: Driven) -> None:
    comfyui.faults.hold_after = 6
    await elses(comfyui)
    await elses(comfyui, "another")
    before = len(comfyui.asked)
    running = asyncio.create_task(driven.run(request := driven.request(recorded("01"))))
    await queued(comfyui, request.job)
    await asyncio.sleep(1.5)
    assert len(comfyui.asked) - before < 12, comfyui.asked[before:]
    comfyui.faults.release()
    whole(driven, await running)
    assert [each.id for each in comfyui.ran][:2] == ["somebody else's", "another"]
    assert comfyui.interrupts == []
    assert {"somebody else's", "another"} <= set(comfyui.memory.history)


async def test_waiting_for_a_long_node_asks_little(comfyui: Replayer, driven: Driven) -> None:
    comfyui.faults.hold_after = 6
    running = asyncio.create_task(driven.run(driven.request(recorded("01"))))
    await comfyui.until_ran(1)
    before = len(comfyui.asked)
    await asyncio.sleep(2.0)
    assert len(comfyui.asked) - before <= 6, comfyui.asked[before:]
    comfyui.faults.release()
    whole(driven, await running)


async def test_a_hang_ends_the_run_and_asks_for_a_restart(comfyui: Replayer, tmp_path: Path) -> None:
    comfyui.faults.hold_after = 6
    comfyui.faults.deaf = True
    async with driving(comfyui, tmp_path, supervised=True, hang_seconds=1.0, grace_seconds=0.5) as driven:
        with pytest.raises(EngineLost):
            await driven.run(driven.request(recorded("01")))
        assert driven.restarts == 1
        assert comfyui.interrupts
        comfyui.faults.deaf = False
        await comfyui.restart()
        comfyui.faults.release()
        await restarted(driven)
        whole(driven, await driven.run(driven.request(recorded("01"))))


async def test_a_queue_that_moves_is_no_hang(comfyui: Replayer, tmp_path: Path) -> None:
    comfyui.faults.pace_seconds = 0.03
    async with driving(comfyui, tmp_path, supervised=True, hang_seconds=2.5) as driven:
        for number in range(3):
            await elses(comfyui, f"else {number}")
        whole(driven, await driven.run(driven.request(recorded("01"))))
        assert driven.restarts == 0
        assert comfyui.interrupts == []


# What a node raises


def raising(kind: str, message: str) -> Script:
    """The run of recording 20, but with this exception."""
    found = script("20")
    told = {"exception_type": kind, "exception_message": f"{message}\n"}
    frames = tuple(
        replace(f, data=f.data | told) if isinstance(f, Event) and f.type == "execution_error" else f
        for f in found.frames
    )
    return replace(found, frames=frames)


@pytest.mark.parametrize(
    ("kind", "message", "outcome", "code", "again", "restarts"),
    [
        ("torch.OutOfMemoryError", "Allocation on device", "failed", "out_of_memory", True, 0),
        ("RuntimeError", "CUDA out of memory. Tried to allocate 2.00 GiB", "failed", "out_of_memory", True, 0),
        ("OSError", "[Errno 28] No space left on device: 'x.png'", "failed", "disk_full", True, 0),
        ("RuntimeError", "CUDA error: an illegal memory access was encountered", "failed", "worker_lost", True, 1),
        (
            "FileNotFoundError",
            "Model in folder 'loras' with filename 'x.safetensors' not found.",
            "unfit",
            "",
            False,
            0,
        ),
        ("ValueError", "boom", "failed", "", False, 0),
    ],
)
async def test_what_a_node_raises_becomes_the_right_cause(
    comfyui: Replayer, tmp_path: Path, kind: str, message: str, outcome: str, code: str, again: bool, restarts: int
) -> None:
    comfyui.play(raising(kind, message))
    async with driving(comfyui, tmp_path, supervised=True) as driven:
        end = await driven.run(driven.request(recorded("20")))
        assert (end.outcome, end.end["retryable"]) == (outcome, again)
        assert not code or end.end["code"] == code
        assert end.end["exception_message"].startswith(message)
        assert driven.restarts == restarts


# Interrupts


async def test_an_interrupt_stops_the_run_and_names_it(comfyui: Replayer, driven: Driven) -> None:
    comfyui.faults.hold_after = 8
    running = asyncio.create_task(driven.run(request := driven.request(recorded("24"))))
    await comfyui.until_ran(1)
    await driven.engine.interrupt()
    end = await running
    assert end.outcome == "interrupted"
    assert set(comfyui.interrupts) == {request.job}
    comfyui.faults.release()
    whole(driven, await driven.run(driven.request(recorded("01"))))


async def test_an_interrupt_that_came_too_soon_is_repeated(comfyui: Replayer, driven: Driven) -> None:
    """The instance clears the flag when a prompt starts."""
    comfyui.faults.hold_after = 8
    running = asyncio.create_task(driven.run(driven.request(recorded("24"))))
    await comfyui.until_ran(1)
    comfyui.faults.deaf = True  # the first one is lost
    await driven.engine.interrupt()
    async with asyncio.timeout(5):
        while not comfyui.interrupts:
            await asyncio.sleep(0.01)
    comfyui.memory.interrupted.clear()
    comfyui.faults.deaf = False
    comfyui.faults.release()
    comfyui.faults.pace_seconds = 0.1
    assert (await running).outcome == "interrupted"
    assert len(comfyui.interrupts) >= 2


@pytest.mark.parametrize("asked", ["before", "while it waits"])
async def test_an_interrupt_of_a_waiting_run_touches_nobody_else(comfyui: Replayer, driven: Driven, asked: str) -> None:
    comfyui.faults.hold_after = 8
    await elses(comfyui)
    await comfyui.until_ran(1)
    request = driven.request(recorded("01"), interrupted=asked == "before")
    running = asyncio.create_task(driven.run(request))
    if asked != "before":
        await queued(comfyui, request.job)
        await driven.engine.interrupt()
    assert (await running).outcome == "interrupted"
    assert comfyui.interrupts == []
    comfyui.faults.release()
    async with asyncio.timeout(10):
        while "somebody else's" not in comfyui.memory.history:
            await asyncio.sleep(0.01)
    assert [each.id for each in comfyui.ran] == ["somebody else's"]


async def test_a_deaf_run_asks_for_a_restart_and_is_interrupted_by_it(comfyui: Replayer, tmp_path: Path) -> None:
    comfyui.faults.hold_after, comfyui.faults.deaf = 8, True

    def restart() -> None:
        comfyui.faults.deaf = False
        comfyui.faults.release()
        restarting.append(asyncio.create_task(comfyui.restart()))

    restarting: list[asyncio.Task[None]] = []
    async with driving(comfyui, tmp_path, supervised=True, restarting=restart, grace_seconds=0.5) as driven:
        running = asyncio.create_task(driven.run(driven.request(recorded("24"))))
        await comfyui.until_ran(1)
        await driven.engine.interrupt()
        assert (await running).outcome == "interrupted"
        assert driven.restarts == 1
        await asyncio.gather(*restarting)


async def test_a_deaf_run_that_nobody_can_restart_is_left_behind_until_it_is_over(
    comfyui: Replayer, tmp_path: Path
) -> None:
    comfyui.faults.hold_after, comfyui.faults.deaf = 8, True
    async with driving(comfyui, tmp_path, grace_seconds=0.3) as driven:
        running = asyncio.create_task(driven.run(driven.request(recorded("24"))))
        await comfyui.until_ran(1)
        await driven.engine.interrupt()
        assert (await running).outcome == "interrupted"
        assert not driven.engine.alive
        with pytest.raises(EngineLost):  # it still runs there
            async with asyncio.timeout(10):
                await driven.engine.start()
        comfyui.faults.release()
        await restarted(driven)
        whole(driven, await driven.run(driven.request(recorded("01"))))


async def test_somebody_elses_interrupt_is_no_fault_of_the_job(comfyui: Replayer, driven: Driven) -> None:
    comfyui.faults.hold_after = 8
    running = asyncio.create_task(driven.run(driven.request(recorded("24"))))
    await comfyui.until_ran(1)
    async with httpx.AsyncClient(base_url=comfyui.url) as http:
        await http.post("/interrupt")
    assert await retryable(running) == "worker_lost"
    comfyui.faults.release()
