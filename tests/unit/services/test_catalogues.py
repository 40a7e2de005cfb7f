"""What a pool of several workers offers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from limner.blobs.keys import catalogue_key
from limner.bus.memory import MemoryBus
from limner.bus.messages import CatalogueAnswer, CatalogueOffer, Heartbeat
from limner.db import catalogues as rows
from limner.errors import NotFound, Unavailable
from limner.graph.catalogue import Catalogue
from limner.services import catalogues as service
from limner.services.catalogues import Catalogues
from tests.support.durable import Durable, durable

POOL = "default"


def checkpoints(*names: str) -> Catalogue:
    return Catalogue(nodes={}, models={"checkpoints": names})


def offer_of(catalogue: Catalogue, worker: str = "w", *, key: str = "", whole: bool = True) -> CatalogueOffer:
    raw = catalogue.to_json() if whole and not key else None
    return CatalogueOffer(worker=worker, pool=POOL, digest=catalogue.digest, catalogue=raw, key=key)


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus()


@pytest.fixture
async def d(tmp_path: Path, bus: MemoryBus) -> AsyncIterator[Durable]:
    async with durable(tmp_path, bus) as made:
        yield made


@pytest.fixture(autouse=True)
def look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "FRESH_SECONDS", 0.0)


def gateway(d: Durable) -> Catalogues:
    return Catalogues(d.db, d.bus, d.blobs)


async def serve(d: Durable, worker: str, catalogue: Catalogue | None, pool: str = POOL) -> None:
    digest = "" if catalogue is None else catalogue.digest
    await d.bus.put_worker(Heartbeat(worker=worker, pool=pool, state="idle", version="1", catalogue=digest))


async def names(catalogues: Catalogues) -> list[str]:
    return sorted((await catalogues.current()).models.get("checkpoints", ()))


A, B = checkpoints("a", "both"), checkpoints("b", "both")


async def test_a_pool_offers_what_all_its_workers_serve(d: Durable) -> None:
    first, second = gateway(d), gateway(d)
    for worker, catalogue in (("a", A), ("b", B)):
        assert (await first.offer(offer_of(catalogue, worker))).ok
        await serve(d, worker, catalogue)
    assert await names(first) == await names(second) == ["a", "b", "both"]


async def test_other_pools_workers_are_left_out(d: Durable) -> None:
    catalogues = gateway(d)
    await catalogues.offer(offer_of(A, "a"))
    await catalogues.offer(CatalogueOffer(worker="b", pool="other", digest=B.digest, catalogue=B.to_json()))
    await serve(d, "a", A)
    await serve(d, "b", B, pool="other")
    assert await names(catalogues) == ["a", "both"]


async def test_when_a_worker_serves_something_else_its_old_catalogue_goes(d: Durable) -> None:
    catalogues = gateway(d)
    for catalogue in (A, B):
        await catalogues.offer(offer_of(catalogue))
        await serve(d, "w", catalogue)
    assert await names(catalogues) == ["b", "both"]
    await catalogues.offer(offer_of(A, whole=False))
    await serve(d, "w", A)
    assert await names(catalogues) == ["a", "both"], "it was known already"


async def test_while_no_worker_is_there_the_last_ones_count_also_after_a_start(d: Durable, bus: MemoryBus) -> None:
    catalogues = gateway(d)
    old = checkpoints("old")
    await catalogues.offer(offer_of(old, "a"))
    for worker, catalogue in (("a", A), ("b", B)):
        await catalogues.offer(offer_of(catalogue, worker))
        await serve(d, worker, catalogue)
    await names(catalogues)
    bus.lose_everything()
    for each in (catalogues, gateway(d)):
        assert await names(each) == ["a", "b", "both"]
    await serve(d, "a", None)
    assert await names(gateway(d)) == ["a", "b", "both"], "its engine is not up yet"


async def test_while_the_bus_is_away_the_last_ones_count(d: Durable, bus: MemoryBus) -> None:
    catalogues = gateway(d)
    await catalogues.offer(offer_of(A))
    bus.down = True
    for each in (catalogues, gateway(d)):
        assert await names(each) == ["a", "both"]


async def test_a_large_catalogue_comes_through_the_blob_store(d: Durable) -> None:
    large = checkpoints(*(f"{n:0200}" for n in range(50_000)))
    key = catalogue_key(large.digest)
    await d.blobs.put(key, json.dumps(large.to_json()).encode())
    catalogues = gateway(d)
    assert (await catalogues.offer(offer_of(large, whole=False))).wanted
    assert await catalogues.offer(offer_of(large, key=key)) == CatalogueAnswer(ok=True)
    assert not (await catalogues.offer(offer_of(large, whole=False))).wanted
    assert await d.blobs.size(key) is None, "it is stored now"
    assert len(await names(gateway(d))) == 50_000


async def test_an_offer_that_is_repeated_while_it_is_read_is_read_once(
    d: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogues, read = gateway(d), 0
    check = service._checked

    def count(offer: CatalogueOffer, fetched: str | None) -> tuple[Catalogue, str]:
        nonlocal read
        read += 1
        return check(offer, fetched)

    monkeypatch.setattr(service, "_checked", count)
    answers = await asyncio.gather(*(catalogues.offer(offer_of(A)) for _ in range(4)))
    assert answers == [CatalogueAnswer(ok=True)] * 4
    assert read == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be fetched"),
        (b"\xff", "cannot be fetched"),
        (b"{", "cannot be read"),
        (b"[]", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (json.dumps(B.to_json()).encode(), "its digest is"),
        (b" " * 101, "100 MiB is the most"),
    ],
)
async def test_a_blob_that_is_no_such_catalogue_is_refused(
    d: Durable, monkeypatch: pytest.MonkeyPatch, content: bytes | None, says: str
) -> None:
    if content == b" " * 101:
        monkeypatch.setattr(service, "MOST_BYTES", 100)
        says = "MiB is the most"
    key = catalogue_key(A.digest)
    if content is not None:
        await d.blobs.put(key, content)
    answer = await gateway(d).offer(offer_of(A, key=key))
    assert not answer.ok
    assert says in answer.reason
    assert (await gateway(d).offer(offer_of(A, whole=False))).wanted


@pytest.mark.parametrize("digest", ["../t/default/inputs/ff", A.digest])
async def test_no_other_blob_is_read(d: Durable, digest: str) -> None:
    await d.blobs.put("t/default/inputs/ff", json.dumps(A.to_json()).encode())
    keys = ("t/default/inputs/ff", f"catalogues/{B.digest}.json", "catalogues/../t/default/inputs/ff.json")
    for key in keys:
        answer = await gateway(d).offer(CatalogueOffer(worker="w", pool=POOL, digest=digest, key=key))
        assert "own key" in answer.reason


async def test_while_the_store_is_away_the_worker_is_not_answered(d: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    """It offers its catalogue again; a refusal would be the end of that."""

    async def away(_key: str) -> int:
        raise Unavailable("the store is away")

    monkeypatch.setattr(d.blobs, "size", away)
    with pytest.raises(Unavailable):
        await gateway(d).offer(offer_of(A, key=catalogue_key(A.digest)))


async def test_a_stored_catalogue_of_another_version_is_left_out(d: Durable) -> None:
    catalogues = gateway(d)
    for worker, catalogue in (("a", A), ("b", B)):
        await catalogues.offer(offer_of(catalogue, worker))
        await serve(d, worker, catalogue)
    spoil = text("UPDATE offered_catalogues SET catalogue = '{}' WHERE digest = :digest")
    await d.db.write(lambda c: c.execute(spoil, {"digest": A.digest}))
    assert await names(gateway(d)) == ["b", "both"]
    await d.db.write(lambda c: c.execute(spoil, {"digest": B.digest}))
    assert await gateway(d).current() is Catalogue.core()


async def test_catalogues_that_nobody_serves_go_after_a_week_and_current_ones_never(d: Durable) -> None:
    catalogues = gateway(d)
    for catalogue in (A, B):
        await catalogues.offer(offer_of(catalogue))
    await d.db.write(rows.forget_unseen)
    assert set(await d.db.read(lambda c: rows.stored(c, POOL))) == {A.digest, B.digest}
    age = text("UPDATE offered_catalogues SET seen_at = seen_at - :seconds")
    await d.db.write(lambda c: c.execute(age, {"seconds": rows.KEPT_SECONDS + 1}))
    await d.db.write(rows.forget_unseen)
    assert await d.db.read(lambda c: rows.stored(c, POOL)) == {B.digest: True}
    assert (await catalogues.offer(offer_of(A, whole=False))).wanted


async def test_of_a_catalogue_that_changes_all_the_time_a_few_are_kept(d: Durable) -> None:
    catalogues = gateway(d)
    await catalogues.offer(offer_of(A, "a"))
    await serve(d, "a", A)
    for number in range(rows.KEPT + 4):
        flapping = checkpoints(f"{number}")
        await catalogues.offer(offer_of(flapping, "b"))
        await serve(d, "b", flapping)
        await d.db.write(rows.forget_unseen)
    stored = await d.db.read(lambda c: rows.stored(c, POOL))
    assert {digest for digest, current in stored.items() if current} == {A.digest, flapping.digest}
    assert len(stored) == 2 + rows.KEPT


async def test_a_workers_nodes_stay_until_its_new_catalogue_has_come(d: Durable) -> None:
    catalogues = gateway(d)
    for worker, catalogue in (("a", A), ("b", B)):
        await catalogues.offer(offer_of(catalogue, worker))
        await serve(d, worker, catalogue)
    assert await names(catalogues) == ["a", "b", "both"]
    new = checkpoints("a", "new")
    await serve(d, "a", new)
    assert await names(catalogues) == ["a", "b", "both"]
    await catalogues.offer(offer_of(new, "a"))
    assert await names(catalogues) == ["a", "b", "both", "new"]


async def test_gateways_that_see_the_workers_differently_do_not_write_by_turns(
    d: Durable, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = gateway(d)
    for worker, catalogue in (("a", A), ("b", B)):
        await first.offer(offer_of(catalogue, worker))
        await serve(d, worker, catalogue)
    await names(first)
    await bus.drop_worker("b")
    second, written = gateway(d), 0
    make_current = rows.make_current

    def count(*arguments: Any) -> None:
        nonlocal written
        written += 1
        make_current(*arguments)

    monkeypatch.setattr(rows, "make_current", count)
    for _ in range(5):
        assert await names(first) == ["a", "b", "both"], "it may come back"
        assert await names(second) == ["a", "both"]
    assert written == 1


async def test_what_another_gateway_has_taken_meanwhile_is_no_fault(
    d: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the blob away once the catalogue is stored."""

    async def gone(_key: str) -> int:
        await gateway(d).offer(offer_of(A))
        raise NotFound("it is not there")

    monkeypatch.setattr(d.blobs, "size", gone)
    assert (await gateway(d).offer(offer_of(A, key=catalogue_key(A.digest)))).ok


async def test_the_workers_are_asked_once_a_second_at_the_most(
    d: Durable, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "FRESH_SECONDS", 60.0)
    catalogues, asked = gateway(d), 0
    ask = bus.workers

    async def count() -> list[Heartbeat]:
        nonlocal asked
        asked += 1
        return await ask()

    monkeypatch.setattr(bus, "workers", count)
    await asyncio.gather(*(catalogues.current() for _ in range(5)))
    await catalogues.current()
    assert asked == 1


async def test_a_bus_that_does_not_answer_holds_nobody_up(
    d: Durable, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogues = gateway(d)
    await catalogues.offer(offer_of(A))

    async def hang() -> list[Heartbeat]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(service, "ANSWER_SECONDS", 0.01)
    monkeypatch.setattr(bus, "workers", hang)
    async with asyncio.timeout(5):
        assert await names(catalogues) == await names(gateway(d)) == ["a", "both"]
