"""Parts of files, by RFC 9110."""

from __future__ import annotations

import pytest

from limner.comfy.dialect.ranges import Unsatisfiable, wanted_part


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-3", (0, 4)),
        ("bytes=4-", (4, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=8-30", (8, 10)),
        (None, None),
        ("", None),
        ("bytes=-", None),
        ("bytes=5-2", None),
        ("bytes=0-1,4-5", None),
        ("lines=0-1", None),
        (f"bytes=0-{'9' * 18}", (0, 10)),
        (f"bytes=0-{'9' * 5000}", None),
        (f"bytes={'9' * 5000}-", None),
        (f"bytes=-{'9' * 5000}", None),
    ],
)
def test_which_part_is_meant(header: str | None, part: tuple[int, int] | None) -> None:
    assert wanted_part(header, 10) == part


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-1", 0)])
def test_a_part_beyond_the_end_is_refused(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        wanted_part(header, size)
