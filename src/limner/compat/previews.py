"""Pictures of half-done work as packs give them, made small and encoded."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from PIL import Image as Pictures

from limner.nodes.pictures import to_bytes

QUALITY = 95


def encoded(preview: Any) -> tuple[str, bytes]:
    """(type, bytes) of `(format, picture, largest size)`: fitted into that size, smaller pictures enlarged."""
    form, picture, largest = preview
    if largest:
        scale = largest / max(picture.size)
        size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
        picture = picture.resize(size, Pictures.Resampling.BILINEAR)
    buffer = BytesIO()
    if form == "PNG":
        picture.save(buffer, format="PNG", compress_level=1)
        return "image/png", buffer.getvalue()
    picture.convert("RGB").save(buffer, format="JPEG", quality=QUALITY)
    return "image/jpeg", buffer.getvalue()


def as_picture(given: Any) -> Pictures.Image:
    """One of Pillow's pictures; of a tensor (H, W, C) or (B, H, W, C) in 0..1 the (first) picture."""
    if isinstance(given, Pictures.Image):
        return given
    first = given[0] if given.ndim == 4 else given
    return Pictures.fromarray(to_bytes(first[None])[0].squeeze())
