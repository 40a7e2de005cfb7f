"""What a node raised, as ComfyUI's `execution_error` words it."""

from __future__ import annotations

import json
import math
import signal
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limner.errors import LimnerError

MAX_TEXT = 10_000
MAX_FRAMES = 100
MAX_ITEMS = 1000
MAX_SHOWN_BYTES = 2_000_000
OUT_OF_MEMORY_HINT = (
    "The device has no memory left. A smaller picture, a smaller batch or a smaller model needs less.\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An exception in words. `code` and `retryable` are Limner's own, the rest is as ComfyUI has it."""

    exception_type: str
    exception_message: str
    traceback: tuple[str, ...]
    code: str
    retryable: bool

    @classmethod
    def of(cls, raised: BaseException) -> Failure:
        kind = type(raised)
        out_of_memory = _is_out_of_memory(raised)
        return cls(
            exception_type=kind.__qualname__
            if kind.__module__ == "builtins"
            else f"{kind.__module__}.{kind.__qualname__}",
            exception_message=f"{_text(raised)}\n{OUT_OF_MEMORY_HINT if out_of_memory else ''}",
            traceback=tuple(map(_text, traceback.format_tb(raised.__traceback__)[-MAX_FRAMES:])),
            code="out_of_memory" if out_of_memory else _code(raised),
            retryable=out_of_memory or (isinstance(raised, LimnerError) and raised.retryable),
        )


def by_hand(raised: BaseException) -> bool:
    """Whether a user at the terminal ends the process. An engine process hears no Ctrl-C: there a node raised it."""
    return isinstance(raised, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def shown_inputs(inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """A node's arguments for a message, each a list: plain values as they are, others as text."""
    return {name: [_shown(value) for value in values[:MAX_ITEMS]] for name, values in inputs.items()}


def check_shown(ui: Mapping[str, list[Any]]) -> None:
    """Raises TypeError or ValueError where what a node wants shown is no JSON data: else none can send it.

    Half a surrogate pair is none: it can be escaped in JSON, but no database keeps it.
    """
    size = len(json.dumps(ui, allow_nan=False, ensure_ascii=False).encode())
    if size > MAX_SHOWN_BYTES:
        raise ValueError(
            f"what the node wants shown has {size / 1e6:.1f} MB as JSON, {MAX_SHOWN_BYTES / 1e6:.0f} MB is the most; "
            "save large things as files"
        )


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _text(value)


def _text(value: Any) -> str:
    try:
        text = str(value)
    except Exception as raised:  # any object may come along here, and its own fault must not hide the node's
        text = f"<{type(value).__name__}, which cannot be shown: {type(raised).__name__}>"
    text = text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair can be kept nowhere
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."


def _code(raised: BaseException) -> str:
    return raised.code if isinstance(raised, LimnerError) else "node_error"


def _is_out_of_memory(raised: BaseException) -> bool:
    """Told by names: this package knows no torch, whose CPU side raises a plain RuntimeError."""
    if isinstance(raised, MemoryError) or type(raised).__name__ == "OutOfMemoryError":
        return True
    return isinstance(raised, RuntimeError) and "DefaultCPUAllocator" in str(raised)
