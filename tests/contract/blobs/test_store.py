"""One suite over every blob store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from limner.blobs import keys
from limner.blobs.memory import MemoryStore
from limner.blobs.objects import ObjectStore
from limner.blobs.port import BlobStore
from limner.errors import Conflict, Misconfigured, NotFound, Unavailable

BIG = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture(params=["memory", "folder", "obstore"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    """obstore's own memory store stands for what is neither a folder nor ours."""
    if request.param == "memory":
        yield MemoryStore()
    elif request.param == "folder":
        yield ObjectStore((tmp_path / "a store").as_uri())
    else:
        yield ObjectStore("memory:///")


async def read(store: BlobStore, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([piece async for piece in store.stream(key, start, end)])


@pytest.mark.parametrize("data", [b"", b"abc", BIG])
async def test_what_is_put_can_be_got(store: BlobStore, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "source").write_bytes(data)
    await store.put("t/a/x/1.png", data)
    await store.put("t/a/x/2.png", tmp_path / "source")
    for key in ("t/a/x/1.png", "t/a/x/2.png"):
        assert await store.get(key) == data
        assert await store.size(key) == len(data)
        assert await read(store, key) == data
        await store.fetch(key, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == data


async def test_a_part_can_be_read(store: BlobStore) -> None:
    await store.put("k", BIG)
    assert await read(store, "k", 10, 20) == BIG[10:20]
    assert await read(store, "k", 1_000_000) == BIG[1_000_000:]
    assert await read(store, "k", 5, 10**9) == BIG[5:]
    assert await read(store, "k", len(BIG)) == b""


async def test_a_blob_can_be_replaced_but_not_created_twice(store: BlobStore) -> None:
    await store.put("k", b"1", create=True)
    with pytest.raises(Conflict):
        await store.put("k", b"2", create=True)
    assert await store.get("k") == b"1"
    await store.put("k", b"3")
    assert await store.get("k") == b"3"


async def test_of_many_creators_one_wins(store: BlobStore) -> None:
    results = await asyncio.gather(
        *(store.put("k", str(n).encode(), create=True) for n in range(8)), return_exceptions=True
    )
    assert sum(result is None for result in results) == 1
    assert await store.get("k") == str(results.index(None)).encode()


async def test_a_missing_blob_is_told_as_such(store: BlobStore, tmp_path: Path) -> None:
    assert await store.size("no/such") is None
    with pytest.raises(NotFound):
        await store.get("no/such")
    with pytest.raises(NotFound):
        await read(store, "no/such")
    with pytest.raises(NotFound):
        await store.fetch("no/such", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    await store.delete(["no/such"])


async def test_keys_are_listed_by_folder(store: BlobStore) -> None:
    for key in ("t/a/1", "t/a/b/2", "t/ab/3"):
        await store.put(key, b"x")
    assert await store.list("t/a") == ["t/a/1", "t/a/b/2"]
    assert await store.list("t/a/") == ["t/a/1", "t/a/b/2"]
    assert await store.list("t/none") == []
    await store.delete(["t/a/1", "t/a/b/2"])
    assert await store.list("t") == ["t/ab/3"]


async def test_keys_are_listed_by_age(store: BlobStore) -> None:
    await store.put("t/a/1", b"x")
    assert await store.list("t/a", before=datetime.now(UTC) - timedelta(seconds=60)) == []
    assert await store.list("t/a", before=datetime.now(UTC) + timedelta(seconds=60)) == ["t/a/1"]


async def test_folders_are_listed_by_themselves(store: BlobStore) -> None:
    for key in ("t/b/1", "t/a/x/2", "t/a/y/3", "t/c", "u/d/4"):
        await store.put(key, b"x")
    assert await store.folders("t") == ["a", "b"]
    assert await store.folders("t/a") == ["x", "y"]
    assert await store.folders("none") == []


async def test_a_folder_that_is_removed_just_after_it_was_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting the last blob of a folder removes it, maybe while another is about to be written there."""
    store = ObjectStore(tmp_path.as_uri())
    mkdir, removed = Path.mkdir, []

    def mkdir_in_vain(folder: Path, *arguments: Any, **more: Any) -> None:
        mkdir(folder, *arguments, **more)
        if folder.name == "t" and not removed:
            removed.append(folder)
            folder.rmdir()

    monkeypatch.setattr(Path, "mkdir", mkdir_in_vain)
    await store.put("t/1", b"x")
    assert await store.get("t/1") == b"x"
    assert removed


async def test_only_a_folder_has_local_paths(store: BlobStore) -> None:
    await store.put("t/a/1", b"x")
    path = store.local_path("t/a/1")
    assert path is None or path.read_bytes() == b"x"


async def test_nothing_half_written_stays_in_the_folder(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path.as_uri())
    await store.put("t/1", b"x", create=True)
    with pytest.raises(Conflict):
        await store.put("t/1", b"y", create=True)
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["1"]


async def test_a_store_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path.as_uri())
    (tmp_path / "t").write_text("a file where a folder should be")
    with pytest.raises(Unavailable):
        await store.put("t/1", b"x")
    with pytest.raises(NotFound):
        await store.get("t/1")


def test_a_store_url_that_means_nothing_is_told_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for url in ("nonsense://x", "not a url", (tmp_path / "file").as_uri()):
        with pytest.raises(Misconfigured):
            ObjectStore(url)


def test_keys_begin_with_their_tenant() -> None:
    prefix = keys.attempt_prefix("acme", "job", "tok", datetime(2026, 1, 2, tzinfo=UTC))
    assert keys.output_key(prefix, 3, ".png") == "t/acme/jobs/2026/01/02/job/tok/3.png"
    assert keys.input_key("acme", "ff") == "t/acme/inputs/ff"
    assert keys.temp_key("acme", "", "a.png") != keys.temp_key("acme", "s", "a.png")
    assert keys.temp_key("acme", "", "a.png").startswith("t/acme/temp/")
