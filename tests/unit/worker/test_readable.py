"""The readable output folder: nothing is overwritten but what an earlier attempt of the same job left."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.worker.readable import folder_of, largest_number, place


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(b"new")
    return path


def test_a_file_is_linked_and_its_folder_made(tmp_path: Path, source: Path) -> None:
    target = place(source, tmp_path / "out" / "sub" / "a.png")
    assert target == tmp_path / "out" / "sub" / "a.png"
    assert target.samefile(source)
    assert [path.name for path in target.parent.iterdir()] == ["a.png"]


def test_a_strangers_file_stays(tmp_path: Path, source: Path) -> None:
    stranger = tmp_path / "a.png"
    stranger.write_bytes(b"old")
    assert place(source, stranger) == tmp_path / "a (1).png"
    assert place(source, stranger) == tmp_path / "a (2).png"
    assert stranger.read_bytes() == b"old"


def test_what_an_earlier_attempt_left_is_replaced(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"first attempt")
    assert place(source, target, replaces=lambda found: found.read_bytes() == b"first attempt") == target
    assert target.read_bytes() == b"new"


def test_a_disk_without_hard_links_gets_a_copy(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    target = tmp_path / "a.png"
    assert place(source, target) == target
    assert place(source, target) == tmp_path / "a (1).png"
    assert target.read_bytes() == b"new"
    assert not target.samefile(source)


def test_the_largest_number_is_read_as_comfyui_reads_it(tmp_path: Path) -> None:
    for name in ("x_00001_.png", "x_00012_.png", "x_7.png", "xx_00099_.png", "x_00050_y_.png", "x_a_.png"):
        (tmp_path / name).touch()
    assert largest_number(tmp_path, "x") == 50
    assert largest_number(tmp_path, "none") == 0
    assert largest_number(tmp_path / "absent", "x") == 0


def test_only_the_default_tenants_files_lie_at_the_top(tmp_path: Path) -> None:
    assert folder_of(tmp_path, "default", "a/b") == tmp_path / "a" / "b"
    assert folder_of(tmp_path, "acme", "") == tmp_path / "tenants" / "acme"
