"""WebSocket frames as ComfyUI words them: plain data, no sockets."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

PREVIEW = 1
TEXT = 3
PREVIEW_WITH_METADATA = 4
IMAGE_TYPES = {"image/jpeg": 1, "image/png": 2}

Node: TypeAlias = Mapping[str, Any]
"""A NodeRef as it travels: `id`, `display`, `parent`, `real`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame, text or binary, and who gets it.

    `client` None: every socket of the tenant. `metadata` True or False: only sockets that asked, or did not ask, for
    previews with metadata. `snapshot`: a later frame with the same mark says all that this one says.
    """

    data: str | bytes
    client: str | None = None
    metadata: bool | None = None
    snapshot: str = ""


_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode  # json.dumps would make one for each call


def compact(value: Any) -> str:
    """JSON without blanks. Numbers that JSON does not have (NaN, infinities, from some node's output) become null."""
    try:
        return _encode(value)
    except ValueError:
        return _encode(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def text(event: str, data: Mapping[str, Any]) -> str:
    """The text frame of one event."""
    return compact({"type": event, "data": data})


def status(queue_remaining: int, sid: str | None = None) -> str:
    told: dict[str, Any] = {"status": {"exec_info": {"queue_remaining": queue_remaining}}}
    return text("status", told if sid is None else {**told, "sid": sid})


def preview(image_type: str, picture: bytes) -> bytes:
    """Frame 1: the kind of picture, then the file."""
    return struct.pack(">II", PREVIEW, IMAGE_TYPES[image_type]) + picture


def node_text(node_id: str, words: str) -> bytes:
    """Frame 3: words that a client shows at a node."""
    shown = node_id.encode()
    return struct.pack(">II", TEXT, len(shown)) + shown + words.encode()


def preview_with_metadata(prompt_id: str, node: Node, image_type: str, picture: bytes) -> bytes:
    """Frame 4: which node of which prompt it shows, then the file."""
    metadata = json.dumps(
        {
            "node_id": node["id"],
            "prompt_id": prompt_id,
            "display_node_id": node["display"],
            "parent_node_id": node["parent"],
            "real_node_id": node["real"],
            "image_type": image_type,
        }
    ).encode()
    return struct.pack(">II", PREVIEW_WITH_METADATA, len(metadata)) + metadata + picture
