"""A run's files in the engine: names asked for, tokens filled in, nothing outside of its folder."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from limner.engine.prefixes import fill_tokens, split_prefix
from limner.enginehost.files import RunFiles
from limner.errors import BadName, NotFound

NOW = time.struct_time((2026, 3, 7, 9, 5, 1, 5, 66, 0))


def files(folder: Path, asked: list[tuple[str, str, str, int]], **inputs: str) -> RunFiles:
    def ask(subfolder: str, prefix: str, extension: str, count: int) -> list[dict[str, str]]:
        asked.append((subfolder, prefix, extension, count))
        return [{"filename": f"{prefix}_{n + 1:05}_{extension}", "subfolder": subfolder} for n in range(count)]

    def keep(subfolder: str, filename: str, sha256: str) -> dict[str, str]:
        return {"filename": f"{sha256[:4]}-{filename}", "subfolder": subfolder}

    return RunFiles(folder=folder, inputs=inputs, ask=ask, keep=keep)


def reserve(run: RunFiles, prefix: str, *, type: str = "output", count: int = 1) -> list[str]:
    made = run.reserve(type=type, prefix=prefix, count=count, width=64, height=32, extension=".png")
    return [f"{file.subfolder}/{file.filename}" for file in made]


def test_output_names_come_from_the_supervisor(tmp_path: Path) -> None:
    asked: list[tuple[str, str, str, int]] = []
    assert reserve(files(tmp_path, asked), "a/b/cat_%width%x%height%", count=2) == [
        "a/b/cat_64x32_00001_.png",
        "a/b/cat_64x32_00002_.png",
    ]
    assert asked == [("a/b", "cat_64x32", ".png", 2)]


def test_temp_names_are_random_and_ask_nobody(tmp_path: Path) -> None:
    asked: list[tuple[str, str, str, int]] = []
    run = files(tmp_path, asked)
    names = [reserve(run, "ComfyUI_temp_abcde", type="temp") for _ in range(2)]
    assert names[0] != names[1]
    assert re.fullmatch(r"/ComfyUI_temp_[a-z]{17}_00001_\.png", names[0][0])
    assert asked == []


def test_every_written_file_is_told_once(tmp_path: Path) -> None:
    run = files(tmp_path, [])
    one, two = run.reserve(type="output", prefix="x", count=2, width=1, height=1, extension=".png")
    one.path.write_bytes(b"1")
    assert [told["filename"] for told in run.written()] == ["x_00001_.png"]
    two.path.write_bytes(b"2")
    assert [told["filename"] for told in run.written()] == ["x_00002_.png"]
    assert run.written() == []


def test_a_file_that_a_node_named_itself_is_taken_over_under_a_name_that_is_free(tmp_path: Path) -> None:
    run = files(tmp_path / "out", [])
    (tmp_path / "mine.mp4").write_bytes(b"film")
    saved = run.adopt(tmp_path / "mine.mp4", type="output", subfolder="a", filename="mine.mp4")
    [told] = run.written()
    assert told == {"path": str(saved.path), "filename": "d060-mine.mp4", "subfolder": "a", "type": "output"}
    assert saved.path.read_bytes() == (tmp_path / "mine.mp4").read_bytes() == b"film"


def test_a_temporary_file_of_a_nodes_own_gets_a_name_that_was_never_used(tmp_path: Path) -> None:
    run = files(tmp_path / "out", [])
    (tmp_path / "x_00001_.png").write_bytes(b"1")
    names = {
        run.adopt(tmp_path / "x_00001_.png", type="temp", subfolder="", filename="x_00001_.png").filename for _ in "12"
    }
    assert len(names) == 2
    assert all(re.fullmatch(r"x_00001_[a-z]{12}\.png", name) for name in names)


def test_a_file_whose_name_leaves_its_folder_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"1")
    with pytest.raises(BadName):
        files(tmp_path / "out", []).adopt(tmp_path / "x.png", type="output", subfolder="../up", filename="x.png")


def test_an_input_that_the_job_does_not_have_is_not_found(tmp_path: Path) -> None:
    run = files(tmp_path, [], **{"a.png": "/somewhere/0.png"})
    assert run.input("a.png") == Path("/somewhere/0.png")
    with pytest.raises(NotFound, match=r"b\.png"):
        run.input("b.png")


def test_time_tokens_are_filled_in_with_two_digits() -> None:
    text = "%year%-%month%-%day%/%hour%%minute%%second%_%unknown%_%batch_num%"
    assert fill_tokens(text, width=1, height=1, now=NOW) == "2026-03-07/090501_%unknown%_%batch_num%"


@pytest.mark.parametrize("prefix", ["../x", "a/../../x", "/etc/x", "\\x", "..\\x", "C:/x", "a\nb", "x" * 300])
def test_a_prefix_that_leaves_the_folder_is_refused(prefix: str) -> None:
    with pytest.raises(BadName):
        split_prefix(prefix)


@pytest.mark.parametrize(
    ("prefix", "parts"),
    [("x", ("", "x")), ("a/b/x", ("a/b", "x")), ("a/", ("a", "")), ("./x", ("", "x")), ("", ("", ""))],
)
def test_a_prefix_has_a_folder_and_a_file_part(prefix: str, parts: tuple[str, str]) -> None:
    assert split_prefix(prefix) == parts
