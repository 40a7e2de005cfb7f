"""Writes PNG files of 16 bits a value, which Pillow does not (PNG specification, third edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

GREY, COLOURS, COLOURS_AND_ALPHA = 0, 2, 6
KINDS = {1: GREY, 3: COLOURS, 4: COLOURS_AND_ALPHA}
UP = 2
"""The filter that stores what changes from the line above."""

COMPRESS_LEVEL = 4


def write_png16(values: np.ndarray, path: Path, texts: Mapping[str, str]) -> None:
    """Writes a picture (H, W, 1, 3 or 4) uint16 with these ASCII texts."""
    height, width, count = values.shape
    lines = values.astype(">u2").view(np.uint8).reshape(height, -1)
    steps = np.diff(lines, axis=0, prepend=np.zeros((1, lines.shape[1]), np.uint8))
    filtered = np.concatenate([np.full((height, 1), UP, np.uint8), steps], axis=1)
    head = struct.pack(">IIBBBBB", width, height, 16, KINDS[count], 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + b"".join(_chunk(b"tEXt", f"{key}\0{text}".encode("latin-1")) for key, text in texts.items())
        + _chunk(b"IDAT", zlib.compress(filtered.tobytes(), COMPRESS_LEVEL))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
