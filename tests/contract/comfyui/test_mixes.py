"""Faults in any mix, at any moment: a run ends soon, whole, or so that another attempt may do better."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from limner.errors import LimnerError
from tests.contract.comfyui.driving import Driven, driving, files_of, recorded, sha256
from tests.support.replayer import OLD, Replayer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

PATHS = ("/queue", "/history", "/view", "/prompt", "/interrupt")


def afflict(server: Replayer, dice: random.Random) -> None:
    """Some of what can go wrong, in some strength."""

    def falls(chance: float) -> bool:
        return dice.random() < chance

    faults = server.faults
    faults.pace_seconds = dice.choice([0.0, 0.0, 0.02, 0.1])
    if falls(0.4):
        faults.drop_sockets_after = dice.randint(1, 14)
    if falls(0.2):
        faults.refuse_sockets = dice.randint(1, 4)
    if falls(0.2):
        faults.mute_after = dice.randint(0, 14)
    if falls(0.3):
        faults.history_late = dice.randint(1, 5)
    if falls(0.1):
        faults.history_never = True
    if falls(0.3):
        faults.cut_views = [dice.randint(0, 700) for _ in range(dice.randint(1, 3))]
    if falls(0.3):
        faults.answers[dice.choice(PATHS)] = [dice.choice([500, 502, 503])] * dice.randint(1, 3)


async def strike(server: Replayer, driven: Driven, dice: random.Random) -> None:
    """Something that happens while it runs, or nothing."""
    await asyncio.sleep(dice.random())
    match dice.choice(["nothing", "restart", "freeze", "interrupt", "cut"]):
        case "restart":
            await server.restart()
        case "freeze":
            server.wire.freeze()
            await asyncio.sleep(2 * dice.random())
            server.wire.thaw()
        case "interrupt":
            await driven.engine.interrupt()
        case "cut":
            server.wire.cut()


@pytest.mark.parametrize("seed", range(30))
async def test_a_run_ends_whole_or_can_be_tried_again(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    async with (
        Replayer(OLD if dice.random() < 0.3 else None) as server,
        driving(server, tmp_path, hang_seconds=6.0, grace_seconds=1.0) as driven,
    ):
        afflict(server, dice)
        running = asyncio.create_task(driven.run(driven.request(recorded("01")), seconds=40))
        await strike(server, driven, dice)
        try:
            end = await running
        except LimnerError as error:
            if not error.retryable:
                raise
        else:
            assert end.outcome in ("succeeded", "interrupted") or end.end["retryable"], end
            if end.outcome == "succeeded":
                assert [sha256(each)[:16] for each in files_of(end, driven.sink).values()] == ["3755ff9b2072cd3a"]
        for kind in ("RunStarted", "NodesCached", "NodeOutput"):
            assert driven.sink.kinds.count(kind) <= 1, driven.sink.kinds
        assert len(server.asked) < 150, "a storm of requests"
