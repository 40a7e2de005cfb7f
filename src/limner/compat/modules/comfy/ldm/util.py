"""Small helpers."""

from __future__ import annotations

from typing import Any


def exists(x: Any) -> bool:
    return x is not None


def default(val: Any, d: Any) -> Any:
    """The value, or what stands in for one that is not there."""
    if val is not None:
        return val
    return d() if callable(d) else d
