"""What another server told, made fit to be kept and sent on."""

from __future__ import annotations

import math
from typing import Any

from limner.graph.workflow import MAX_BITS, MAX_NESTING, holds_infinity, unfit

TOO_DEEP = "..."


def sound(value: Any) -> Any:
    """The same JSON without what no database or client can hold; most values come back as they are.

    NaN and infinities become null, halves of surrogate pairs "?", numbers too large to be written their size in
    words, and what is nested too deep an ellipsis.
    """
    if unfit(value) is None and not holds_infinity(value):
        return value
    return _mended(value, MAX_NESTING)


def _mended(value: Any, levels: int) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if value.bit_length() <= MAX_BITS else f"a number of {value.bit_length()} bits"
    if not isinstance(value, dict | list):
        return value
    if not levels:
        return TOO_DEEP
    if isinstance(value, dict):
        return {_mended(name, 0): _mended(each, levels - 1) for name, each in value.items()}
    return [_mended(each, levels - 1) for each in value]
