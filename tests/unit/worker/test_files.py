"""A job's files on the worker."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from limner.blobs.keys import temp_key
from limner.blobs.memory import MemoryStore
from limner.blobs.objects import ObjectStore
from limner.bus.messages import Claimed
from limner.errors import BadName, NotFound, Unavailable
from limner.worker import files as module
from limner.worker.files import JobFiles

CLAIMED = Claimed(ok=True, token="t1", tenant="default", prompt_id="p")
KEY = "t/default/jobs/2026/01/02/job/t1/0.png"


def written(files: JobFiles, name: str, data: bytes, type: str = "output") -> dict[str, str]:
    files.folder.mkdir(parents=True, exist_ok=True)
    path = files.folder / name
    path.write_bytes(data)
    return {"path": str(path), "filename": name, "subfolder": "s", "type": type}


async def test_outputs_go_up_under_their_reserved_key_and_into_the_readable_folder(tmp_path: Path) -> None:
    store = ObjectStore((tmp_path / "blobs").as_uri())
    files = JobFiles(store, CLAIMED, tmp_path / "work", tmp_path / "output")
    files.reserved([{"filename": "a.png", "subfolder": "s", "key": KEY}])
    await files.store([written(files, "a.png", b"picture")])
    assert await store.get(KEY) == b"picture"
    readable = tmp_path / "output" / "s" / "a.png"
    assert not readable.exists()
    await files.show()
    assert readable.read_bytes() == b"picture"
    local = store.local_path(KEY)
    assert local is not None
    assert readable.samefile(local)
    digest = hashlib.sha256(b"picture").hexdigest()
    told = {"key": KEY, "filename": "a.png", "subfolder": "s", "type": "output", "size_bytes": 7, "sha256": digest}
    assert files.stored == [told]


async def test_a_second_attempt_replaces_what_the_first_one_showed(tmp_path: Path) -> None:
    store = ObjectStore((tmp_path / "blobs").as_uri())
    for token, data in (("t1", b"first"), ("t2", b"second")):
        files = JobFiles(store, CLAIMED, tmp_path / token, tmp_path / "output")
        files.reserved([{"filename": "a.png", "subfolder": "s", "key": KEY.replace("t1", token)}])
        await files.store([written(files, "a.png", data)])
        await files.show()
    assert [path.name for path in (tmp_path / "output" / "s").iterdir()] == ["a.png"]
    assert (tmp_path / "output" / "s" / "a.png").read_bytes() == b"second"


async def test_a_second_attempt_replaces_what_the_first_one_showed_under_a_key_of_its_bytes(tmp_path: Path) -> None:
    """Files that an engine named itself lie under keys that tell their bytes."""
    store = ObjectStore((tmp_path / "blobs").as_uri())
    for token, data in (("t1", b"first"), ("t2", b"second")):
        files = JobFiles(store, CLAIMED, tmp_path / token, tmp_path / "output")
        key = f"t/default/jobs/2026/01/02/job/{token}/{hashlib.sha256(data).hexdigest()[:32]}.png"
        files.reserved([{"filename": "a.png", "subfolder": "s", "key": key}])
        await files.store([written(files, "a.png", data)])
        await files.show()
    assert [path.name for path in (tmp_path / "output" / "s").iterdir()] == ["a.png"]
    assert (tmp_path / "output" / "s" / "a.png").read_bytes() == b"second"


async def test_a_file_that_is_told_twice_is_stored_once(tmp_path: Path) -> None:
    files = JobFiles(MemoryStore(), CLAIMED, tmp_path / "work", None)
    files.reserved([{"filename": "a.png", "subfolder": "s", "key": KEY}])
    for _ in range(2):
        await files.store([written(files, "a.png", b"picture")])
    assert len(files.stored) == 1


async def test_an_output_folder_that_cannot_be_written_does_not_fail_the_job(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("a file is in the way")
    store = MemoryStore()
    files = JobFiles(store, CLAIMED, tmp_path / "work", tmp_path / "output")
    files.reserved([{"filename": "a.png", "subfolder": "s", "key": KEY}])
    await files.store([written(files, "a.png", b"picture")])
    await files.show()
    assert await store.get(KEY) == b"picture"


async def test_temp_files_need_no_reservation(tmp_path: Path) -> None:
    store = MemoryStore()
    files = JobFiles(store, CLAIMED, tmp_path / "work", tmp_path / "output")
    await files.store([written(files, "a.png", b"picture", type="temp")])
    assert await store.get(temp_key("default", "s", "a.png")) == b"picture"
    await files.show()
    assert files.stored == []
    assert not (tmp_path / "output").exists()


async def test_large_files_are_not_read_into_memory_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL_BYTES", 3)
    store = ObjectStore((tmp_path / "blobs").as_uri())
    files = JobFiles(store, CLAIMED, tmp_path / "work", None)
    files.reserved([{"filename": "a.png", "subfolder": "s", "key": KEY}])
    await files.store([written(files, "a.png", b"picture")])
    assert files.stored[0]["sha256"] == hashlib.sha256(b"picture").hexdigest()
    assert await store.get(KEY) == b"picture"


class Flaky(MemoryStore):
    """Takes the bytes, but the first answers are lost."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.losses = losses

    async def put(self, key: str, data: bytes | Path, *, create: bool = False, durable: bool = True) -> None:
        await super().put(key, data, create=create)
        if self.losses:
            self.losses -= 1
            raise Unavailable("the answer was lost")


async def test_an_upload_is_repeated_and_its_own_traces_are_no_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES_SECONDS", (0.0, 0.0))
    files = JobFiles(Flaky(losses=1), CLAIMED, tmp_path / "work", None)
    files.reserved([{"filename": "a.png", "subfolder": "s", "key": KEY}])
    await files.store([written(files, "a.png", b"picture")])
    assert len(files.stored) == 1


async def test_a_file_outside_of_the_engines_folder_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    files = JobFiles(MemoryStore(), CLAIMED, tmp_path / "work", None)
    with pytest.raises(BadName, match="outside of its folder"):
        await files.store([{"path": str(tmp_path / "secret"), "filename": "s", "subfolder": "", "type": "temp"}])


async def test_inputs_come_down_under_names_of_our_own(tmp_path: Path) -> None:
    store = MemoryStore()
    await store.put("t/default/inputs/abc", b"bytes")
    inputs = [{"reference": "sub/a.png [output]", "key": "t/default/inputs/abc", "sha256": "abc", "size_bytes": 5}]
    files = JobFiles(store, Claimed(ok=True, tenant="default", inputs=inputs), tmp_path / "work", None)
    [(reference, path)] = (await files.fetch_inputs()).items()
    assert (reference, Path(path).name, Path(path).read_bytes()) == ("sub/a.png [output]", "0.png", b"bytes")


async def test_an_input_that_is_gone_is_told(tmp_path: Path) -> None:
    inputs = [{"reference": "a.png", "key": "t/default/inputs/gone", "sha256": "gone", "size_bytes": 5}]
    files = JobFiles(MemoryStore(), Claimed(ok=True, tenant="default", inputs=inputs), tmp_path / "work", None)
    with pytest.raises(NotFound):
        await files.fetch_inputs()


def test_nothing_is_left_of_the_scratch_folder(tmp_path: Path) -> None:
    files = JobFiles(MemoryStore(), CLAIMED, tmp_path / "work", None)
    files.clean()
    written(files, "a.png", b"x")
    (files.folder / "deep").mkdir()
    (files.folder / "deep" / "b").touch()
    files.clean()
    assert not (tmp_path / "work").exists()
