"""Uploads and look-ups, after the recorded behaviour of the original where that is sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.errors import BadName, NotFound
from limner.services.names import filename_of, reference_of, subfolder_of
from tests.support.durable import Durable, durable

T = "default"


async def upload(d: Durable, name: str = "a.png", data: bytes | Path = b"one", **more: object) -> dict[str, str]:
    fields: dict[str, object] = {"folder": "input", "subfolder": "", "overwrite": False}
    return await d.files.upload(T, filename=name, data=data, **(fields | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("folder", ["input", "temp", "output"])
async def test_the_same_name_with_other_bytes_gets_a_number(tmp_path: Path, folder: str) -> None:
    async with durable(tmp_path) as d:
        names = [(await upload(d, data=data, folder=folder))["name"] for data in (b"1", b"2", b"3", b"2", b"1")]
        assert names == ["a.png", "a (1).png", "a (2).png", "a (1).png", "a.png"]
        found = await d.files.find(T, type=folder, subfolder="", filename="a (1).png")
        assert found is not None
        assert await d.blobs.get(found.key) == b"2"


@pytest.mark.parametrize("folder", ["input", "temp", "output"])
async def test_overwrite_replaces_the_bytes(tmp_path: Path, folder: str) -> None:
    async with durable(tmp_path) as d:
        await upload(d, folder=folder)
        assert await upload(d, data=b"newer", folder=folder, overwrite=True) == {
            "name": "a.png",
            "subfolder": "",
            "type": folder,
        }
        found = await d.files.find(T, type=folder, subfolder="", filename="a.png")
        assert found is not None
        assert (found.size_bytes, await d.blobs.get(found.key)) == (5, b"newer")


async def test_a_file_on_disk_is_taken_too(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        (tmp_path / "big").write_bytes(b"x" * 3_000_000)
        await upload(d, data=tmp_path / "big")
        found = await d.files.find(T, type="input", subfolder="", filename="a.png")
        assert found is not None
        assert found.size_bytes == 3_000_000


async def test_folders_come_in_one_spelling(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        assert (await upload(d, subfolder="x\\y/"))["subfolder"] == "x/y"
        assert await d.files.find(T, type="input", subfolder="x/y", filename="a.png") is not None
        assert await d.files.input_names(T) == ["x/y/a.png"]


async def test_input_names_are_sorted_and_ones_own(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        for name in ("b.png", "a.png"):
            await upload(d, name)
        await upload(d, "out.png", folder="output")
        assert await d.files.input_names(T) == ["a.png", "b.png"]
        assert await d.files.input_names("another") == []


async def test_references_are_resolved_with_their_marks(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await upload(d, "a.png", b"in")
        await upload(d, "b.png", b"out", folder="output", subfolder="s")
        await upload(d, "c.png", b"temp", folder="temp")
        found = await d.files.resolve(T, ["a.png", "s/b.png [output]", "c.png [temp]", "a.png"])
        assert [file.reference for file in found] == ["a.png", "s/b.png [output]", "c.png [temp]"]
        assert [await d.blobs.get(file.key) for file in found] == [b"in", b"out", b"temp"]
        assert [file.size_bytes for file in found] == [2, 3, 4]
        assert all(len(file.sha256) == 64 for file in found)


async def test_references_that_are_there_are_told_from_others(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await upload(d, "a.png")
        await upload(d, "b.png", folder="output", subfolder="s")
        await upload(d, "c.png", folder="temp")
        there = ["a.png", "s/b.png [output]", "c.png [temp]"]
        assert (
            await d.files.present(T, [*there, "b.png [output]", "a.png [temp]", "../a.png", "x/\0 [output]"]) == there
        )


async def test_all_missing_references_are_told_at_once(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await upload(d)
        with pytest.raises(NotFound) as caught:
            await d.files.resolve(T, ["a.png", "b.png", "../c.png", "d.png [temp]"])
        assert caught.value.details["references"] == ["b.png", "../c.png", "d.png [temp]"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "\0", "x" * 300, "a\nb", "a\x7fb", "\ud800"])
async def test_bad_file_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadName):
        filename_of(name)
    async with durable(tmp_path) as d:
        with pytest.raises(BadName):
            await upload(d, name)


@pytest.mark.parametrize("folder", ["..", "a/../..", "/etc", "\\\\host", "C:\\x", "a/\0", "a/" + "x" * 300])
def test_bad_folders(folder: str) -> None:
    with pytest.raises(BadName):
        subfolder_of(folder)


@pytest.mark.parametrize("folder", ["inputs", "", "../output"])
async def test_bad_kinds_of_folder(tmp_path: Path, folder: str) -> None:
    async with durable(tmp_path) as d:
        with pytest.raises(BadName):
            await upload(d, folder=folder)


@pytest.mark.parametrize(
    ("reference", "meant"),
    [
        ("a.png", ("input", "", "a.png")),
        ("s/t/a.png", ("input", "s/t", "a.png")),
        ("a.png [output]", ("output", "", "a.png")),
        ("a.png[temp]", ("temp", "", "a.png")),
        ("a [x].png", ("input", "", "a [x].png")),
    ],
)
def test_references(reference: str, meant: tuple[str, str, str]) -> None:
    assert reference_of(reference) == meant
