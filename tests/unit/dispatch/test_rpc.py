"""Workers' messages, good and bad."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.bus.memory import MemoryBus
from limner.bus.messages import (
    CatalogueAnswer,
    CatalogueOffer,
    Claim,
    Claimed,
    Done,
    Keep,
    Message,
    Reserve,
    Reserved,
    Resume,
    Resumed,
    Settled,
)
from limner.dispatch.rpc import HINTS, read, serve_workers
from limner.errors import Invalid, Unavailable
from limner.graph.catalogue import Catalogue
from limner.services.catalogues import Catalogues
from tests.support.durable import durable

CLAIM = {"id": "j", "epoch": 0, "worker": "w", "delivery": "d"}
DONE = {"id": "j", "token": "t", "outcome": "succeeded"}
RESERVE = {"id": "j", "token": "t", "call": 0, "subfolder": "", "prefix": "p", "extension": ".png", "count": 1}
KEPT = {"filename": "f", "subfolder": "", "sha256": "0" * 64}
KEEP = {"id": "j", "token": "t", "files": [KEPT]}
FILE = {"key": "k", "filename": "f", "subfolder": "", "type": "output", "size_bytes": 1, "sha256": "s"}


@pytest.mark.parametrize(
    "message",
    [
        Claim(**CLAIM),
        Done(**DONE, files=[FILE], messages=[["execution_start", {}]], error={"code": "x"}),
        Reserve(**RESERVE),
        Keep(**KEEP),
        Resume(worker="w"),
        CatalogueOffer(worker="w", pool="p", digest="d"),
    ],
)
def test_every_message_is_read_as_it_was_sent(message: Message) -> None:
    assert read(type(message), message.encode()) == message


def test_members_of_a_newer_version_are_ignored() -> None:
    assert read(Claim, json.dumps({**CLAIM, "v": 2, "hint": [1]}).encode()) == Claim(**CLAIM)


@pytest.mark.parametrize(
    ("kind", "raw", "says"),
    [
        (Claim, b"", "not JSON"),
        (Claim, b"\xff\xfe", "not JSON"),
        (Claim, b"[" * 100_000, "not JSON"),
        (Claim, b"[]", "not an object"),
        (Claim, {}, "without id"),
        (Claim, {**CLAIM, "epoch": "0"}, "epoch is of type str"),
        (Claim, {**CLAIM, "epoch": True}, "epoch is of type bool"),
        (Claim, {**CLAIM, "id": None}, "id is of type NoneType"),
        (Done, {**DONE, "outcome": "won"}, "outcome is 'won'"),
        (Done, {**DONE, "messages": [["x"]]}, "pairs"),
        (Done, {**DONE, "messages": [[1, {}]]}, "pairs"),
        (Done, {**DONE, "files": [{**FILE, "key": 1}]}, "proper key"),
        (Done, {**DONE, "files": ["x"]}, "files is of type list"),
        (Done, {**DONE, "error": "boom"}, "error is of type str"),
        (Reserve, {**RESERVE, "count": 1.5}, "count is of type float"),
        (Keep, {**KEEP, "files": [{**KEPT, "sha256": 1}]}, "proper sha256"),
        (Keep, {**KEEP, "files": [{"filename": "f"}]}, "proper subfolder"),
        (Resume, {}, "without worker"),
    ],
)
def test_a_bad_message_is_told_what_is_wrong_with_it(kind: type[Message], raw: Any, says: str) -> None:
    body = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    with pytest.raises(Invalid, match=says):
        read(kind, body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(kind=st.sampled_from(list(HINTS)), values=st.data())
def test_nothing_that_is_sent_makes_reading_crash(kind: type[Message], values: st.DataObject) -> None:
    raw = values.draw(JSON | st.dictionaries(st.sampled_from(sorted(HINTS[kind])), JSON))
    with contextlib.suppress(Invalid):
        read(kind, json.dumps(raw).encode())


async def test_workers_get_their_answers_over_the_bus(tmp_path: Path) -> None:
    bus = MemoryBus()
    async with durable(tmp_path, bus) as d:
        subscriptions = await serve_workers(bus, d.attempts, Catalogues(d.db, bus, d.blobs))
        await d.submit("p")
        delivery = await d.pull()
        assert delivery is not None
        claim = Claim(id=delivery.token.id, epoch=0, worker="w", delivery=delivery.id)
        claimed = await bus.request("limner.rpc.claim", claim, Claimed, 5)
        assert claimed.ok
        had = await bus.request("limner.rpc.resume", Resume(worker="w"), Resumed, 5)
        assert had.jobs == [{"id": delivery.token.id, "epoch": 0, "delivery": delivery.id}]
        keep = Keep(id=delivery.token.id, token=claimed.token, files=[KEPT])
        kept = await bus.request("limner.rpc.keep", keep, Reserved, 5)
        assert [name["filename"] for name in kept.names] == ["f"]
        done = Done(id=delivery.token.id, token=claimed.token, outcome="succeeded")
        assert (await bus.request("limner.rpc.done", done, Settled, 5)).ok
        refused = await bus.request("limner.rpc.done", Claim(**CLAIM), Settled, 5)
        assert not refused.ok
        assert "without token, outcome" in refused.reason
        for subscription in subscriptions:
            await subscription.stop()


async def test_while_the_database_is_away_there_is_no_answer(tmp_path: Path) -> None:
    """A refusal would make the worker drop its token."""
    bus = MemoryBus()
    async with durable(tmp_path, bus) as d:
        await serve_workers(bus, d.attempts, Catalogues(d.db, bus, d.blobs))
        await d.db.close()
        with pytest.raises(Unavailable):
            await bus.request("limner.rpc.claim", Claim(**CLAIM), Claimed, 5)


async def test_a_message_that_the_gateway_stumbles_over_is_refused(tmp_path: Path) -> None:
    """Without an answer the worker would keep its lease and ask for ever. The database takes no half surrogate pair."""
    bus = MemoryBus()
    async with durable(tmp_path, bus) as d:
        await serve_workers(bus, d.attempts, Catalogues(d.db, bus, d.blobs))
        await d.submit("p")
        taken = await d.take()
        assert taken is not None
        outputs = {"1": {"text": ["\ud800"]}}
        told = Done(id=taken[0].token.id, token=taken[1].token, outcome="succeeded", outputs=outputs)
        settled = await bus.request("limner.rpc.done", told, Settled, 5)
        assert settled == Settled(ok=False, reason="the gateway failed on this message")


async def test_a_catalogue_is_asked_for_once_and_kept(tmp_path: Path) -> None:
    bus = MemoryBus()
    async with durable(tmp_path, bus) as d:
        catalogues = Catalogues(d.db, bus, d.blobs)
        assert await catalogues.current() is Catalogue.core()
        offered = Catalogue(nodes={}, models={"checkpoints": ("a.safetensors",)})
        offer = CatalogueOffer(worker="w", pool="default", digest=offered.digest)
        assert await catalogues.offer(offer) == CatalogueAnswer(ok=True, wanted=True)
        full = CatalogueOffer(worker="w", pool="default", digest=offered.digest, catalogue=offered.to_json())
        assert await catalogues.offer(full) == CatalogueAnswer(ok=True)
        assert await catalogues.offer(offer) == CatalogueAnswer(ok=True, wanted=False)
        for service in (catalogues, Catalogues(d.db, bus, d.blobs)):
            assert (await service.current()).models == {"checkpoints": ("a.safetensors",)}


@pytest.mark.parametrize("catalogue", [{}, {"nodes": []}, {"nodes": {"a": 1}}, {"nodes": {}, "models": {"x": ["y"]}}])
async def test_a_bad_catalogue_is_refused(tmp_path: Path, catalogue: dict[str, Any]) -> None:
    bus = MemoryBus()
    async with durable(tmp_path, bus) as d:
        catalogues = Catalogues(d.db, bus, d.blobs)
        answer = await catalogues.offer(CatalogueOffer(worker="w", pool="default", digest="d", catalogue=catalogue))
        assert not answer.ok
        assert answer.reason
        assert await catalogues.current() is Catalogue.core()
