"""JSON data from strangers made fit to be kept, hashed and sent on."""

from __future__ import annotations

import math
from typing import Any

from limner.graph.workflow import MAX_BITS, MAX_NESTING


def plain(value: Any, depth: int = MAX_NESTING) -> Any:
    """The same data, with null for what JSON has no word for (NaN, infinities) and for what is nested too deep.

    Text that no encoding can hold gets question marks in its place.
    """
    if isinstance(value, str):
        return value if is_text(value) else value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= MAX_BITS else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth == 0:
        return None
    if isinstance(value, dict):
        return {plain(str(key)): plain(each, depth - 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, depth - 1) for each in value]
    return None


def is_text(value: Any) -> bool:
    """Whether this is text that can be written down: a file's name may hold bytes that are none."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
