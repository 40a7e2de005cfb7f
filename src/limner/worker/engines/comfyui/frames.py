"""What a ComfyUI sends over its socket, taken apart. Whatever comes is looked at, and at worst dropped."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, TypeAlias

WORD = struct.Struct(">I")
IMAGE_TYPES = {1: "image/jpeg", 2: "image/png"}
MAX_PICTURE_BYTES = 4 * 1024 * 1024
"""A preview larger than this is left out: the bus would not take it, and nobody's preview is so large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A text frame: an event's name and its data. `size`: how much text it was."""

    name: str
    data: dict[str, Any]
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictured:
    """A preview. `about` names the prompt and the node; None where the frame does not tell (frame 1)."""

    image_type: str
    picture: bytes
    about: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Worded:
    """A line of text that a node shows."""

    node: str
    text: str


@dataclass(frozen=True, slots=True)
class Gap:
    """No frame: here the socket was broken, and something may have been missed."""


Message: TypeAlias = Said | Pictured | Worded | Gap


def parse(raw: str | bytes) -> Message | None:
    """One frame; None for what is no event, or of a kind that nobody knows."""
    return _text(raw) if isinstance(raw, str) else _binary(raw)


def _text(raw: str) -> Message | None:
    told = _json(raw)
    name, data = told.get("type"), told.get("data")
    return Said(name=name, data=data, size=len(raw)) if isinstance(name, str) and isinstance(data, dict) else None


def _binary(raw: bytes) -> Message | None:
    """All kinds have a second word: the kind of picture, or the length of what comes before the content."""
    if len(raw) < 2 * WORD.size:
        return None
    (kind,), (second,), rest = WORD.unpack_from(raw), WORD.unpack_from(raw, WORD.size), raw[2 * WORD.size :]
    match kind:
        case 1:  # a preview
            return _picture(IMAGE_TYPES.get(second), rest, None)
        case 3 if second <= len(rest):  # a text
            return Worded(node=_utf8(rest[:second]), text=_utf8(rest[second:]))
        case 4 if second <= len(rest):  # a preview with metadata
            about = _json(rest[:second])
            return _picture(about.get("image_type"), rest[second:], about)
        case _:
            return None


def _picture(image_type: Any, picture: bytes, about: dict[str, Any] | None) -> Message | None:
    if image_type not in IMAGE_TYPES.values() or not 0 < len(picture) <= MAX_PICTURE_BYTES:
        return None
    return Pictured(image_type=image_type, picture=picture, about=about)


def _json(raw: str | bytes) -> dict[str, Any]:
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _utf8(raw: bytes) -> str:
    return raw.decode(errors="replace")
