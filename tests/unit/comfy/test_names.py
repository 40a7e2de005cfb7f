"""File names as callers write them; none leaves its place, and none is served as something a browser would run."""

from __future__ import annotations

import pytest

from limner.comfy.dialect.names import FileName, OutsideFolder, disposition, inner_folder
from limner.errors import BadName, NotFound
from limner.graph.file_types import content_type


def name(**query: str) -> FileName:
    return FileName.read(query)


def test_a_mark_wins_over_the_type_and_is_cut_off_with_the_blank_before_it() -> None:
    assert name(filename="v.png [input]") == FileName(type="input", subfolder="", filename="v.png")
    assert name(filename="v.png[temp]", type="output").filename == "v.pn"
    assert name(filename="v.png").type == "output"


def test_folders_in_a_name_are_dropped() -> None:
    assert name(filename="a/v.png", type="input").filename == "v.png"


@pytest.mark.parametrize(
    "bad",
    ["", "/etc/passwd", "../v.png", "a/../v.png", "..", "a\x00b.png", "a\x7f.png", "a\n.png", "a/", "/x [input]"],
)
def test_bad_names_are_refused(bad: str) -> None:
    with pytest.raises(BadName):
        name(filename=bad)


def test_no_name_at_all_is_not_found_and_an_unknown_folder_is_refused() -> None:
    with pytest.raises(NotFound):
        name(type="input")
    with pytest.raises(BadName):
        name(filename="v.png", type="bad")


@pytest.mark.parametrize("bad", ["../..", "/etc", "..", "a/../../b", "..\\..", "a\x00", "a\x7f"])
def test_a_subfolder_cannot_leave(bad: str) -> None:
    with pytest.raises(OutsideFolder):
        inner_folder(bad)


def test_detours_inside_are_straightened() -> None:
    assert [inner_folder(each) for each in ("", ".", "a", "a/", "a/../b", "a//b")] == ["", "", "a", "a", "b", "a/b"]


@pytest.mark.parametrize(
    "extension", ["html", "htm", "xhtml", "css", "js", "mjs", "svg", "xml", "SVG", "HTML", "unknown"]
)
def test_nothing_that_runs_keeps_its_type(extension: str) -> None:
    assert content_type(f"x.{extension}") == "application/octet-stream"


def test_known_types() -> None:
    known = {"a.PNG": "image/png", "a.mp4": "video/mp4", "a.txt": "text/plain", "a.json": "application/json"}
    assert {each: content_type(each) for each in known} == known


def test_the_header_can_hold_every_name() -> None:
    assert disposition("v.png") == 'filename="v.png"'
    assert disposition('a".png') == "filename=\"a_.png\"; filename*=UTF-8''a%22.png"
    disposition("ü\U0001f600.png").encode("latin-1")
