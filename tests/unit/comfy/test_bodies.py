"""Bodies are read whatever their type says; what is no plain JSON is refused in words."""

from __future__ import annotations

import json

import pytest

from limner.comfy.dialect.bodies import MAX_DEPTH, parse
from limner.errors import MalformedJson


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"  ", "empty"),
        (b"{not json", "Expecting property name"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b"[" + b"9" * 5000 + b"]", "thousands of digits"),
        (b"[" * 100_000, "100 levels"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "100 levels"),
        (b'{"a": "\\ud800"}', "Unicode"),
        (b'{"a": "\xed\xa0\x80"}', "UTF-8"),
    ],
)
def test_what_is_no_json_is_refused_and_the_answer_says_why(body: bytes, words: str) -> None:
    with pytest.raises(MalformedJson, match=words):
        parse(body)


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "text",
        [],
        {"a": 2**64 - 1, "b": 10**400, "c": 0.1, "d": "\U0001f600"},
        json.loads("[" * 100 + "]" * 100),
    ],
)
def test_what_is_json_comes_out_as_it_went_in(value: object) -> None:
    assert parse(json.dumps(value).encode()) == value


def test_a_byte_order_mark_does_not_matter() -> None:
    assert parse(b"\xef\xbb\xbf{}") == {}
