"""Bodies are read whatever their type says; what is no plain JSON is refused in words."""

from __future__ import annotations

import json

import pytest
from starlette.requests import Request
from starlette.types import Message

from limner.comfy.dialect.bodies import MAX_DEPTH, json_body, parse
from limner.errors import MalformedJson, PayloadTooLarge


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


async def test_of_a_long_body_no_more_is_taken_than_json_may_have() -> None:
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b" " * 2**20, "more_body": taken < 40}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(PayloadTooLarge, match="Maximum request body size 16777216 exceeded"):
        await json_body(request)
    assert taken == 17


async def test_a_body_of_many_pieces_is_whole() -> None:
    pieces = [b'{"a": ', b"", b"[1,", b" 2]}"]

    async def receive() -> Message:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    assert await json_body(Request({"type": "http", "method": "POST", "headers": []}, receive)) == {"a": [1, 2]}
