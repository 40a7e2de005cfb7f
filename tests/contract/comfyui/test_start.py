"""ComfyEngine before and between runs: reaching an instance, adopting a run, clearing leftovers, noticing changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from limner.enginehost.protocol import RunRequest
from limner.worker.engines.comfyui.monitor import Monitor
from limner.worker.engines.port import EngineLost
from tests.contract.comfyui.driving import SHORT, WORKER, Driven, RecordingSink, driving, files_of, recorded, sha256
from tests.support.replayer import OLD, Replayer
from tests.support.tree import free_port

JOB, TOKEN = "01890000-0000-7000-8000-000000000abc", "token-of-before"


@pytest.fixture(params=["recorded", "old"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[Replayer]:
    """The recorded version, and one that knows no ids."""
    async with Replayer(OLD if request.param == "old" else None) as server:
        yield server


async def submitted_before(
    server: Replayer, name: str = "01", *, job: str = JOB, token: str = TOKEN, position: int = 0, **marks: str
) -> str:
    """A prompt as an earlier supervisor of this worker left it; its id there."""
    mark = {"job": job, "token": token, "worker": WORKER, **marks}
    body = {"prompt": recorded(name, position)["prompt"], "client_id": "the earlier supervisor", "prompt_id": job}
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post("/prompt", json=body | {"extra_data": {"limner": mark}})
    return str(answer.json()["prompt_id"])


def resumed(driven: Driven, name: str = "01", *, token: str = TOKEN) -> RunRequest:
    return driven.request(recorded(name), job=JOB, token=token, resumed=True)


async def in_history(server: Replayer, prompt_id: str) -> None:
    async with asyncio.timeout(10):
        while prompt_id not in server.memory.history:
            await asyncio.sleep(0.01)


async def test_a_running_prompt_is_adopted_and_not_run_again(either: Replayer, tmp_path: Path) -> None:
    either.faults.hold_after = 6
    await submitted_before(either)
    await either.until_ran(1)
    async with driving(either, tmp_path) as driven:
        sink = RecordingSink()
        running = asyncio.create_task(driven.run(resumed(driven), sink))
        async with asyncio.timeout(10):
            while "the earlier supervisor" not in either.sockets.clients:
                await asyncio.sleep(0.01)
        either.faults.release()
        end = await running
    assert end.outcome == "succeeded"
    assert [sha256(c)[:16] for c in files_of(end, driven.sink).values()] == ["3755ff9b2072cd3a"]
    assert len(either.ran) == 1
    assert sink.of("NodeOutput")
    assert sink.of("RunStarted")
    assert either.interrupts == []


async def test_a_job_that_comes_again_finds_the_prompt_that_was_left(either: Replayer, tmp_path: Path) -> None:
    """Its token came by the queue, as no gateway told what this worker had."""
    either.faults.hold_after = 6
    await submitted_before(either)
    await either.until_ran(1)
    async with driving(either, tmp_path) as driven:
        request = driven.request(recorded("01"), job=JOB, token="the next attempt's")
        running = asyncio.create_task(driven.run(request))
        async with asyncio.timeout(10):
            while "the earlier supervisor" not in either.sockets.clients:
                await asyncio.sleep(0.01)
        either.faults.release()
        assert (await running).outcome == "succeeded"
    assert (len(either.ran), either.interrupts) == (1, [])


async def test_a_waiting_prompt_is_adopted(either: Replayer, tmp_path: Path) -> None:
    either.faults.hold_after = 6
    await submitted_before(either, "24", job="of somebody else", worker="another worker")
    await submitted_before(either)
    async with driving(either, tmp_path) as driven:
        running = asyncio.create_task(driven.run(resumed(driven)))
        await asyncio.sleep(0.5)
        either.faults.release()
        assert (await running).outcome == "succeeded"
    assert len(either.ran) == 2
    assert either.interrupts == []


async def test_a_prompt_that_succeeded_meanwhile_is_taken_from_history(either: Replayer, tmp_path: Path) -> None:
    await in_history(either, await submitted_before(either))
    async with driving(either, tmp_path) as driven:
        sink = RecordingSink()
        end = await driven.run(resumed(driven), sink)
    assert end.outcome == "succeeded"
    assert [sha256(c)[:16] for c in files_of(end, driven.sink).values()] == ["3755ff9b2072cd3a"]
    assert len(either.ran) == 1


@pytest.mark.parametrize("same", [True, False])
async def test_a_prompt_that_failed_meanwhile_failed_if_it_was_this_attempt(
    either: Replayer, tmp_path: Path, same: bool
) -> None:
    await in_history(either, await submitted_before(either, "20"))
    async with driving(either, tmp_path) as driven:
        end = await driven.run(resumed(driven, "20", token=TOKEN if same else "token of now"))
    assert end.outcome == "failed"
    assert end.end["exception_type"] == "ValueError"
    assert len(either.ran) == (1 if same else 2)


async def test_a_prompt_that_the_instance_has_forgotten_is_run(either: Replayer, tmp_path: Path) -> None:
    async with driving(either, tmp_path) as driven:
        assert (await driven.run(resumed(driven))).outcome == "succeeded"
    assert len(either.ran) == 1


async def test_what_an_earlier_life_of_this_worker_left_gives_way(either: Replayer, tmp_path: Path) -> None:
    """And nothing of anybody else does."""
    either.faults.hold_after = 6
    ours = await submitted_before(either, "24", job="given to somebody else meanwhile")
    waits = await submitted_before(either, "24", job="this too")
    theirs = await submitted_before(either, "24", job="of a neighbour", worker="another worker", position=1)
    twins = await submitted_before(either, "24", job="of our name", deployment="another Limner", position=1)
    async with driving(either, tmp_path) as driven:
        running = asyncio.create_task(driven.run(driven.request(recorded("01"))))
        async with asyncio.timeout(15):
            while len(either.ran) < 2:
                await asyncio.sleep(0.01)
        either.faults.release()
        assert (await running).outcome == "succeeded"
    assert set(either.interrupts) == {ours}
    assert waits not in [each.id for each in either.ran]
    assert {theirs, twins} <= {each.id for each in either.ran}


async def test_an_address_where_nobody_listens_is_said_so(tmp_path: Path) -> None:
    async with Replayer() as server:
        await server.crash()
        async with driving(server, tmp_path, start=False) as driven:
            with pytest.raises(EngineLost, match=str(server.wire.port)):
                async with asyncio.timeout(15):
                    await driven.engine.start()
            assert not driven.engine.alive
        await server.come_back()


@asynccontextmanager
async def something_else(answer: bytes) -> AsyncIterator[int]:
    """A server that is no ComfyUI."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port := free_port())
    try:
        yield port
    finally:
        server.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<html>hi</html>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]",
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"",
    ],
)
async def test_a_server_that_is_no_comfyui_is_said_so(comfyui: Replayer, tmp_path: Path, answer: bytes) -> None:
    async with something_else(answer) as port:
        comfyui.wire._behind = port
        async with driving(comfyui, tmp_path, start=False) as driven:
            with pytest.raises(EngineLost):
                async with asyncio.timeout(20):
                    await driven.engine.start()


async def test_a_new_model_is_told_without_a_restart(comfyui: Replayer, tmp_path: Path) -> None:
    """A refusal that names a model makes the engine look at once."""
    async with driving(comfyui, tmp_path) as driven:
        before = driven.engine.info.digest
        comfyui.models["checkpoints"] = ["another.safetensors"]
        end = await driven.run(driven.request(recorded("60")))
        assert end.outcome == "unfit"
        async with asyncio.timeout(15):
            while driven.infos[-1].digest == before:
                await asyncio.sleep(0.02)
        assert driven.engine.info.digest == driven.infos[-1].digest


async def test_uploads_change_no_digest(comfyui: Replayer, tmp_path: Path) -> None:
    async with driving(comfyui, tmp_path) as driven:
        comfyui.folders.files["input", "", "new.png"] = b"x"
        async with driving(comfyui, tmp_path / "2") as again:
            assert again.engine.info.digest == driven.engine.info.digest


async def test_a_socket_that_breaks_again_and_again_while_idle_costs_no_catalogues(
    comfyui: Replayer, tmp_path: Path
) -> None:
    async with driving(comfyui, tmp_path, patience=replace(SHORT, idle_look=0.05)) as driven:
        opened = 0
        async with asyncio.timeout(10):
            while len(comfyui.sockets.opened) < 6:
                if len(comfyui.sockets.opened) > opened:
                    opened = len(comfyui.sockets.opened)
                    comfyui.wire.cut("/ws")
                await asyncio.sleep(0.01)
        assert driven.engine.alive
    assert comfyui.count("GET", "/object_info") == 1


async def test_what_an_idle_instance_says_and_nobody_understands_is_looked_into_at_a_start(
    comfyui: Replayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with driving(comfyui, tmp_path, patience=replace(SHORT, idle_look=0.05)) as driven:
        with monkeypatch.context() as broken:
            broken.setattr(Monitor, "_learn", lambda self, stats: stats["nothing"])
            async with asyncio.timeout(10):
                while driven.engine.alive:
                    await asyncio.sleep(0.01)
        await driven.engine.start()
        assert driven.engine.alive


async def test_an_idle_engine_asks_little(comfyui: Replayer, tmp_path: Path) -> None:
    async with driving(comfyui, tmp_path):
        before = len(comfyui.asked)
        await asyncio.sleep(2.0)
        assert len(comfyui.asked) - before <= 3, comfyui.asked[before:]
