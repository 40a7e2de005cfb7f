"""Jobs by the weights that they need, over a real nats-server."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from limner.bus.jetstream import JetStreamBus
from limner.jobs.lanes import lane_of
from limner.worker import warm
from tests.contract.dispatch.parts import all_ended, dispatching, eventually, submit_many, working
from tests.support.durable import TENANT, Durable
from tests.support.nats import NatsServer

MODELS = ("a.safetensors", "b.safetensors")


async def two_workers_are_known(d: Durable) -> None:
    await eventually(lambda: d.release.workers == 2)


async def test_with_one_worker_jobs_of_all_models_keep_their_order(tmp_path: Path, server: NatsServer) -> None:
    async with dispatching(tmp_path, server) as d, working(server) as worker:
        await eventually(lambda: d.release.workers == 1)
        names = await submit_many(d, 24, models=("a", "b", "c"))
        await all_ended(d, worker)
        assert worker.order == names
        assert set(worker.lanes) == {"any"}


async def test_two_workers_stay_with_their_models_and_each_job_ends_once(tmp_path: Path, server: NatsServer) -> None:
    async with dispatching(tmp_path, server) as d, working(server, "x") as x, working(server, "y") as y:
        await two_workers_are_known(d)
        names = await submit_many(d, 60, models=MODELS)
        await all_ended(d, x, y)
        assert sorted(x.order + y.order) == names
        lanes = {lane_of([model]) for model in MODELS}
        assert set(x.lanes + y.lanes) == lanes
        changes = sum(one != other for worker in (x, y) for one, other in pairwise(worker.lanes))
        assert changes < 30, "in the order of their arrival nearly every job would be one of another model"
        for lane in lanes:
            for worker in (x, y):
                mine = [name for name, was in zip(worker.order, worker.lanes, strict=True) if was == lane]
                assert mine == sorted(mine), "within a lane the order of arrival holds"


async def test_no_job_waits_for_ever_behind_those_of_a_warm_lane(
    tmp_path: Path, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "PAST_OTHERS_SECONDS", 0.1)
    async with dispatching(tmp_path, server) as d:
        async with working(server, "x"), working(server, "y"):
            await two_workers_are_known(d)
        await submit_many(d, 4, models=["a"])
        await d.submit("other", models=["b"])
        await submit_many(d, 300, first=4, models=["a"])
        async with working(server, "x") as x:
            await all_ended(d, x)
        assert x.order.index("p000") < x.order.index("other") < x.order.index("p200")
        rest = [name for name in x.order if name != "other"]
        assert rest == sorted(rest)


@pytest.mark.parametrize("store_lost", [False, True])
async def test_jobs_of_many_lanes_outlive_nats(tmp_path: Path, server: NatsServer, store_lost: bool) -> None:
    async with dispatching(tmp_path, server) as d:
        async with working(server, "x"), working(server, "y"):
            await two_workers_are_known(d)
        names = await submit_many(d, 20, models=[f"m{n}" for n in range(5)])
        await d.settle()
        server.kill()
        if store_lost:
            server.lose_everything()
        await server.start()
        async with working(server, "x") as x, working(server, "y") as y:
            await all_ended(d, x, y)
        assert sorted(x.order + y.order) == names
        assert len(set(x.lanes + y.lanes)) == 5


async def test_a_lane_that_expired_is_made_again_for_the_jobs_in_it(tmp_path: Path, server: NatsServer) -> None:
    async with dispatching(tmp_path, server) as d:
        async with working(server, "x"), working(server, "y"):
            await two_workers_are_known(d)
        names = await submit_many(d, 4, models=MODELS)
        await d.settle()
        bus = d.bus
        assert isinstance(bus, JetStreamBus)
        for model in MODELS:
            await bus._requests.api(f"CONSUMER.DELETE.LIMNER_JOBS_default.{lane_of([model])}", {})
        async with working(server, "x") as x:
            await all_ended(d, x)
        assert sorted(x.order) == names


async def test_a_canceled_job_leaves_its_lane(tmp_path: Path, server: NatsServer) -> None:
    async with dispatching(tmp_path, server) as d:
        async with working(server, "x"), working(server, "y"):
            await two_workers_are_known(d)
        await submit_many(d, 4, models=MODELS)
        assert await d.jobs.cancel_waiting(TENANT, ["p000", "p003"]) == 2
        await d.settle()
        assert sorted((await d.bus.pending("default")).values()) == sorted(lane_of([model]) for model in MODELS)
        async with working(server, "x") as x:
            await all_ended(d, x)
        assert sorted(x.order) == ["p001", "p002"]


async def test_a_job_at_the_front_is_first_in_its_lane(tmp_path: Path, server: NatsServer) -> None:
    """The tokens that were out for later ones are taken back, each from its own lane."""
    async with dispatching(tmp_path, server) as d:
        async with working(server, "x"), working(server, "y"):
            await two_workers_are_known(d)
        names = await submit_many(d, 6, models=MODELS)
        await d.submit("front", front=True, models=[MODELS[1]])
        async with working(server, "x") as x:
            await all_ended(d, x)
        assert x.order[0] == "front"
        assert sorted(x.order[1:]) == names
