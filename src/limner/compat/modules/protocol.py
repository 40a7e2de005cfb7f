"""Kinds of binary messages on a client's socket."""

from __future__ import annotations

from enum import IntEnum


class BinaryEventTypes(IntEnum):
    PREVIEW_IMAGE = 1
    UNENCODED_PREVIEW_IMAGE = 2
    TEXT = 3
    PREVIEW_IMAGE_WITH_METADATA = 4
