"""Submit, look, cancel, interrupt, forget."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from limner.bus.memory import MemoryBus
from limner.bus.messages import Control, Heartbeat
from limner.db.session import Connection
from limner.errors import Conflict, PayloadTooLarge
from limner.jobs.model import InputFile, State
from tests.support.durable import WORKFLOW, Durable, durable

T = "default"


async def history_ids(d: Durable, max_items: int | None = None, offset: int | None = None) -> list[str]:
    return [job.prompt_id for job in await d.jobs.history(T, max_items=max_items, offset=offset)]


async def counted_open(d: Durable) -> int:
    def count(connection: Connection) -> int:
        return int(connection.execute(text("SELECT count(*) FROM jobs WHERE ended_at IS NULL")).scalar_one())

    return await d.db.read(count)


async def test_a_job_comes_back_as_it_was_submitted(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        file = InputFile(reference="a.png [input]", key="k", sha256="s", size_bytes=3)
        extra = {"client_id": "c", "extra_pnginfo": {"workflow": {"ä": [1, 2**64 - 1]}}}
        submitted = await d.jobs.submit(
            tenant=T, workflow=WORKFLOW, outputs=["9", "1"], extra_data=extra, inputs=[file], models=["m.safetensors"]
        )
        assert submitted.queue_remaining == 1
        (pending,) = (await d.jobs.queue(T)).pending
        assert pending == submitted.job
        assert (pending.workflow, pending.outputs, pending.extra_data) == (WORKFLOW, ("9", "1"), extra)
        assert (pending.inputs, pending.models, pending.state) == ((file,), ("m.safetensors",), State.RELEASED)
        assert len(pending.prompt_id) == 36


async def test_numbers_count_from_zero_and_given_ones_do_not_count(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        jobs = [await d.submit(), await d.submit(number=7.5), await d.submit(front=True), await d.submit()]
        assert [job.number for job in jobs] == [0.0, 7.5, -1.0, 2.0]
        assert [job.number_given for job in jobs] == [False, True, False, False]


async def test_a_live_duplicate_prompt_id_is_refused_and_uses_up_no_number(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await d.submit("same")
        with pytest.raises(Conflict, match="same"):
            await d.submit("same")
        await d.submit("same", tenant="another")
        assert (await d.submit()).number == 1.0
        assert await d.jobs.remaining(T) == 2


async def test_an_ended_job_of_the_same_prompt_id_leaves_the_history(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await d.run("same")
        await d.run("other")
        await d.submit("same")
        assert await history_ids(d) == ["other"]
        taken = await d.take()
        assert taken is not None
        await d.end(
            *taken, outcome="failed", error={"code": "node_error", "exception_message": "no", "retryable": False}
        )
        assert await history_ids(d) == ["other", "same"]
        entry = await d.jobs.history_entry(T, "same")
        assert entry is not None
        assert entry.state is State.FAILED


async def test_an_accepted_job_is_always_in_queue_or_history(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await d.submit("p")
        assert len((await d.jobs.queue(T)).pending) == 1
        taken = await d.take()
        assert taken is not None
        view = await d.jobs.queue(T)
        assert ([job.prompt_id for job in view.running], view.pending) == (["p"], [])
        assert await d.jobs.history_entry(T, "p") is None
        await d.end(
            *taken, outputs={"1": {"images": []}}, meta={"1": {}}, messages=[["execution_success", {"timestamp": 1}]]
        )
        assert (await d.jobs.queue(T)).running == []
        entry = await d.jobs.history_entry(T, "p")
        assert entry is not None
        assert entry.result == {"outputs": {"1": {"images": []}}, "meta": {"1": {}}}
        assert entry.messages == (("execution_success", {"timestamp": 1}),)
        assert entry.workflow == WORKFLOW


async def test_listeners_hear_of_each_change_after_its_commit(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await d.submit("p")
        taken = await d.take()
        assert taken is not None
        await d.end(*taken, messages=[["execution_success", {}]], last_seq=12)
        assert d.kinds() == ["Queue", "Queue", "Ended"]
        assert [event.data["queue_remaining"] for event in d.heard] == [1, 1, 0]
        ended = d.heard[-1]
        assert (ended.prompt_id, ended.client_id, ended.data["state"], ended.data["last_seq"]) == (
            "p",
            "c",
            "succeeded",
            12,
        )
        assert ended.data["messages"] == [["execution_success", {}]]


async def test_a_workflow_that_no_message_can_hold_is_refused(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        with pytest.raises(PayloadTooLarge, match=r"8\.\d MB"):
            await d.submit(extra_data={"x": "y" * 8_000_000})
        assert await d.jobs.remaining(T) == 0


async def test_a_job_is_accepted_while_the_bus_is_down(tmp_path: Path) -> None:
    bus = MemoryBus()
    async with durable(tmp_path, bus) as d:
        bus.down = True
        await d.jobs.submit(tenant=T, workflow=WORKFLOW, outputs=["1"], extra_data={}, prompt_id="p")
        assert len((await d.jobs.queue(T)).pending) == 1
        bus.down = False
        taken = await d.take()
        assert taken is not None
        assert taken[1].prompt_id == "p"


async def test_canceled_waiting_jobs_leave_no_trace(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        d.release.window = 2
        for place in range(6):
            await d.submit(f"p{place}")
        assert await d.jobs.cancel_waiting(T, ["p0", "p4", "nobody"]) == 2
        assert await d.jobs.remaining(T) == 4
        assert await d.jobs.cancel_waiting(T, ["p0"]) == 0
        assert await d.jobs.cancel_waiting("another", None) == 0
        assert await d.jobs.cancel_waiting(T, None) == 4
        assert await d.jobs.remaining(T) == await counted_open(d) == 0
        assert await d.take() is None
        assert await history_ids(d) == []
        assert d.kinds()[-1] == "Queue"
        assert d.heard[-1].data == {"queue_remaining": 0}


async def test_cancel_waiting_leaves_running_jobs_alone(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await d.submit("runs")
        taken = await d.take()
        assert taken is not None
        assert await d.jobs.cancel_waiting(T, None) == 0
        assert (await d.end(*taken)).ok


async def test_interrupt_reaches_the_worker_and_the_job_enters_the_history(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        heard: list[Control] = []

        async def hear(_subject: str, body: bytes) -> None:
            heard.append(Control.decode(body))

        await d.bus.subscribe("limner.ctl.w", hear)
        await d.submit("p")
        taken = await d.take()
        assert taken is not None
        await d.submit("waits")
        assert await d.jobs.interrupt(T, "waits") == 0
        assert await d.jobs.interrupt("another", None) == 0
        assert await d.jobs.interrupt(T, None) == 1
        assert [(m.kind, m.id, m.token) for m in heard] == [("interrupt", taken[0].token.id, taken[1].token)]
        assert [job.state for job in (await d.jobs.queue(T)).running] == [State.CANCELING]
        await d.end(*taken, outcome="interrupted", messages=[["execution_interrupted", {}]])
        entry = await d.jobs.history_entry(T, "p")
        assert entry is not None
        assert (entry.state, entry.messages) == (State.CANCELED, (("execution_interrupted", {}),))
        assert await d.jobs.remaining(T) == 1


async def test_history_pages_as_comfyui_does(tmp_path: Path) -> None:
    """Expectations from the recorded transcript of the original."""
    async with durable(tmp_path) as d:
        names = [f"p{place}" for place in range(5)]
        for name in names:
            await d.run(name)
        assert await history_ids(d) == names
        assert await history_ids(d, max_items=2) == names[-2:]
        assert await history_ids(d, max_items=99) == names
        assert await history_ids(d, offset=3) == names[3:]
        assert await history_ids(d, max_items=2, offset=1) == names[1:3]
        assert await history_ids(d, max_items=2, offset=-1) == names[-2:]
        assert await history_ids(d, offset=-3) == names
        assert await history_ids(d, max_items=0) == []
        assert await history_ids(d, max_items=0, offset=0) == names[:1]
        assert await history_ids(d, max_items=-1) == []
        assert await history_ids(d, offset=5) == []
        assert await history_ids(d, max_items=3, offset=4) == names[4:]


async def test_hidden_jobs_are_gone_from_the_history_only(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        for name in ("a", "b", "c"):
            await d.run(name)
        assert await d.jobs.hide("another", None) == 0
        assert await d.jobs.hide(T, ["b", "nobody"]) == 1
        assert await history_ids(d) == ["a", "c"]
        assert await d.jobs.history_entry(T, "b") is None
        assert await d.jobs.hide(T, None) == 2
        assert await history_ids(d) == []


async def test_tenants_see_their_own_jobs_only(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await d.run("done", tenant="a")
        await d.submit("waits", tenant="a")
        assert await d.jobs.remaining("b") == 0
        assert (await d.jobs.queue("b")).pending == []
        assert await d.jobs.history("b") == []
        assert await d.jobs.history_entry("b", "done") is None


async def test_free_goes_to_every_worker(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        heard: list[tuple[str, Control]] = []

        async def hear(subject: str, body: bytes) -> None:
            heard.append((subject, Control.decode(body)))

        await d.bus.subscribe("limner.ctl.*", hear)
        for name in ("w1", "w2"):
            await d.bus.put_worker(Heartbeat(worker=name, pool="default", state="idle", version="1", catalogue=""))
        await d.jobs.free(unload_models=True, free_memory=False)
        assert [subject for subject, _ in heard] == ["limner.ctl.w1", "limner.ctl.w2"]
        assert heard[0][1].unload_models
        assert not heard[0][1].free_memory


async def test_watching_asks_for_previews_of_the_clients_own_running_jobs(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        heard: list[Control] = []

        async def hear(_subject: str, body: bytes) -> None:
            heard.append(Control.decode(body))

        await d.bus.subscribe("limner.ctl.w", hear)
        await d.submit("theirs", client_id="somebody else")
        assert await d.take() is not None
        await d.submit("ours")
        taken = await d.take()
        assert taken is not None
        await d.submit("waits")
        await d.jobs.watch("another", "c")
        assert heard == []
        await d.jobs.watch(T, "c")
        assert [(m.kind, m.id, m.token) for m in heard] == [("watch", taken[0].token.id, taken[1].token)]


async def test_jobs_can_be_recorded_or_the_check_says_why_not(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await d.jobs.check()
        with sqlite3.connect(tmp_path / "limner.db") as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(d.jobs.check(), 0.2)
            other.rollback()
        await d.jobs.check()
