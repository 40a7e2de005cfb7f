"""Frames of ComfyUI's socket, good and broken."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.worker.engines.comfyui.frames import MAX_PICTURE_BYTES, Pictured, Said, Worded, parse


def words(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


def test_text_frames_are_events() -> None:
    raw = '{"type": "executing", "data": {"node": "1"}}'
    assert parse(raw) == Said(name="executing", data={"node": "1"}, size=len(raw))


@pytest.mark.parametrize(("word", "image_type"), [(1, "image/jpeg"), (2, "image/png")])
def test_a_preview_tells_its_kind(word: int, image_type: str) -> None:
    assert parse(words(1, word) + b"bytes") == Pictured(image_type=image_type, picture=b"bytes")


def test_a_preview_with_metadata_tells_its_node() -> None:
    about = {"node_id": "3", "image_type": "image/png"}
    raw = json.dumps(about).encode()
    assert parse(words(4, len(raw)) + raw + b"bytes") == Pictured(image_type="image/png", picture=b"bytes", about=about)


def test_a_text_is_shown_at_a_node() -> None:
    assert parse(words(3, 2) + b"12" + "héllo".encode()) == Worded(node="12", text="héllo")


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "null",
        "[]",
        "{",
        '{"type": 1, "data": {}}',
        '{"type": "x"}',
        '{"type": "x", "data": []}',
        "[" * 100_000,
        b"",
        b"\0\0\0\1",
        words(1, 9) + b"bmp",
        words(1, 1),
        words(1, 1) + bytes(MAX_PICTURE_BYTES + 1),
        words(2, 1) + b"never sent",
        words(3, 99) + b"short",
        words(4, 99) + b"short",
        words(4, 2) + b"{}" + b"bytes",
        words(4, 2) + b"[]" + b"bytes",
        words(4, 1) + b"\xff" + b"bytes",
    ],
)
def test_what_is_no_event_is_nothing(raw: str | bytes) -> None:
    assert parse(raw) is None


@given(st.one_of(st.binary(max_size=64), st.text(max_size=64)))
def test_nothing_that_comes_raises(raw: str | bytes) -> None:
    parse(raw)
