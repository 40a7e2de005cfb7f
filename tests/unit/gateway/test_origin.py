"""The origin check, against what was recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from limner.gateway.origin import foreign

RECORDED = Path(__file__).parents[2] / "data" / "transcripts" / "36_origin_host.json"


def recorded() -> list[tuple[str, str | None, bool]]:
    cases = []
    for each in json.loads(RECORDED.read_text())["exchanges"]:
        headers = each["request"].get("headers", {})
        cases.append((headers.get("Host", "127.0.0.1:8188"), headers.get("Origin"), each["response"]["status"] == 403))
    return cases


@pytest.mark.parametrize(("host", "origin", "refused"), recorded())
def test_origins_are_judged_as_recorded(host: str, origin: str | None, refused: bool) -> None:
    assert foreign(host, origin, reads_only=True) is refused


@pytest.mark.parametrize(
    ("host", "origin", "refused"),
    [
        ("[::1]:8188", "http://[::1]:8188", False),
        ("[::1]:8188", "http://localhost:8188", True),
        ("127.0.0.1:8188", "http://127.0.0.1:8188.evil.example", True),
        ("127.0.0.1:8188", "http://127.0.0.1@evil.example:8188", True),
        ("127.0.0.1:8188", "http://[bad", True),
        ("LOCALHOST:8188", "http://localhost:8188", False),
        ("192.168.1.5:8188", "http://evil.example", False),
        (None, "http://evil.example", False),
        ("limner.example", "http://other.example", False),
        ("localhost.evil.example:8188", "http://evil.example", False),
    ],
)
def test_odd_forms(host: str | None, origin: str | None, refused: bool) -> None:
    assert foreign(host, origin, reads_only=True) is refused


@pytest.mark.parametrize(
    "host",
    [
        "x.localhost:8188",
        "a.b.LOCALHOST",
        "localhost.:8188",
        "x.localhost.",
        "127.0.0.1.",
        "127.9.9.9:8188",
        "0.0.0.0:8188",
        "[::]:8188",
        "[::1]",
        "[::ffff:127.0.0.1]:8188",
        "[::ffff:7f00:1]",
        "[::ffff:0.0.0.0]",
    ],
)
def test_this_machine_is_known_in_every_spelling(host: str) -> None:
    assert foreign(host, "http://evil.example", reads_only=True)
    assert not foreign(host, f"http://{host}", reads_only=False)


@pytest.mark.parametrize("origin", ["null", "file://"])
def test_an_origin_without_a_host_may_read_and_no_more(origin: str) -> None:
    assert not foreign("127.0.0.1:8188", origin, reads_only=True)
    assert foreign("127.0.0.1:8188", origin, reads_only=False)
    assert not foreign("limner.example", origin, reads_only=False)
