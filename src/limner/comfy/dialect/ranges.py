"""The Range header: which part of a file was asked for (RFC 9110, section 14)."""

from __future__ import annotations

import re

ONE_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")  # no file is longer than such a number


class Unsatisfiable(Exception):
    """The part begins beyond the end of the file."""


def wanted_part(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, end) with end not included; None for the whole file, also where the header makes no sense.

    Raises Unsatisfiable. Several parts at once are answered with the whole file, as the RFC allows.
    """
    match = ONE_RANGE.fullmatch((header or "").strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        if int(last) == 0 or size == 0:
            raise Unsatisfiable
        return max(0, size - int(last)), size
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return start, end
