"""Jobs over a real nats-server, from submission to their ends, whatever goes away in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.dispatch.parts import all_ended, dispatching, eventually, submit_many, working
from tests.support.durable import TENANT
from tests.support.nats import NatsServer


async def test_jobs_run_in_their_order_through_the_whole_way(tmp_path: Path, server: NatsServer) -> None:
    async with dispatching(tmp_path, server) as d, working(server) as worker:
        names = await submit_many(d, 30)
        await all_ended(d, worker)
        assert worker.order == names
        assert [job.prompt_id for job in await d.jobs.history(TENANT)] == names
        await eventually(lambda: d.kinds().count("Ended") == 30)


async def test_two_workers_share_the_jobs_and_each_ends_once(tmp_path: Path, server: NatsServer) -> None:
    async with dispatching(tmp_path, server) as d, working(server, "a") as a, working(server, "b") as b:
        names = await submit_many(d, 40)
        await all_ended(d, a, b)
        assert sorted(a.order + b.order) == names


@pytest.mark.parametrize("store_lost", [False, True])
async def test_jobs_outlive_nats(tmp_path: Path, server: NatsServer, store_lost: bool) -> None:
    """nats-server is killed while jobs wait and one runs; some are submitted while it is away."""
    async with dispatching(tmp_path, server) as d:
        names = await submit_many(d, 12)
        async with working(server) as worker:
            await eventually(lambda: len(worker.order) >= 2)
            server.kill()
            names += await submit_many(d, 4, first=12)
            if store_lost:
                server.lose_everything()
            await server.start()
            await all_ended(d, worker)
            assert sorted(job.prompt_id for job in await d.jobs.history(TENANT)) == names
            assert len(worker.order) == len(set(worker.order))


async def test_jobs_outlive_their_gateway(tmp_path: Path, server: NatsServer) -> None:
    async with dispatching(tmp_path, server) as d:
        names = await submit_many(d, 12)
    async with working(server) as worker:
        async with dispatching(tmp_path, server) as d:
            await all_ended(d, worker)
        assert worker.order == names


async def test_a_gateway_may_start_before_nats(tmp_path: Path, server: NatsServer) -> None:
    server.kill()
    async with dispatching(tmp_path, server) as d:
        names = await submit_many(d, 3)
        await server.start()
        async with working(server) as worker:
            await all_ended(d, worker)
            assert worker.order == names


async def test_everything_was_lost_but_sql(tmp_path: Path, server: NatsServer) -> None:
    """The NATS folder was deleted between two starts."""
    async with dispatching(tmp_path, server) as d:
        names = await submit_many(d, 12)
    server.kill()
    server.lose_everything()
    await server.start()
    async with dispatching(tmp_path, server) as d, working(server) as worker:
        await all_ended(d, worker)
        assert worker.order == names
