"""Pictures in other forms: previews, single channels, masks. Blocking work on bytes; call it on a thread."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limner.errors import BadImage
from limner.graph.file_types import BROKEN_PICTURE, PICTURE_FORMATS

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 64 * 1024 * 1024
QUALITY = 90

WITHIN = ("ICO",)
"""Formats that hold pictures of another size than the file tells: read only where memory is bounded otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    data: bytes
    content_type: str


def converted(data: bytes, *, preview: str | None, channel: str | None) -> Picture | None:
    """A picture as /view's `preview` and `channel` want it; None where they want the file itself. Raises BadImage."""
    with _faults():
        if preview is not None:
            return _preview(data, preview, channel or "")
        if channel == "rgb":
            return _png(_opened(data).convert("RGB"))
        if channel == "a":
            return _alpha_only(data)
        return None


def with_alpha_of(original: bytes, mask: bytes) -> bytes:
    """The original as PNG, its alpha replaced by the mask's; the original's PNG text is kept. Raises BadImage."""
    from PIL.PngImagePlugin import PngInfo

    with _faults():
        picture, alpha = _opened(original), _alpha(_opened(mask))
        texts = PngInfo()
        for name, value in getattr(picture, "text", {}).items():
            texts.add_text(name, value)
        picture = picture.convert("RGBA")
        if alpha.size != picture.size:
            alpha = alpha.resize(picture.size)
        picture.putalpha(alpha)
        return _png(picture, pnginfo=texts).data


@contextmanager
def _faults() -> Iterator[None]:
    """Whatever the bytes do to Pillow on the way becomes BadImage."""
    from PIL import Image

    try:
        yield
    except Image.DecompressionBombError as error:
        raise BadImage(f"the picture is too large to convert: {error}") from error
    except BROKEN_PICTURE as error:
        raise BadImage(f"this is no picture that can be read and converted: {error}") from error


def _preview(data: bytes, wanted: str, channel: str) -> Picture:
    """`FORMAT;QUALITY`. JPEG knows no alpha, so a wish for alpha makes it WebP."""
    form, *rest = wanted.split(";")
    form = form if form == "jpeg" and "a" not in channel else "webp"
    quality = int(rest[-1]) if rest and rest[-1].isdecimal() and len(rest[-1]) < 4 else QUALITY
    picture = _opened(data)
    if form == "jpeg" or channel == "rgb":
        picture = picture.convert("RGB")
    elif picture.mode not in ("RGB", "RGBA"):
        picture = picture.convert("RGBA")
    out = io.BytesIO()
    picture.save(out, form, quality=min(quality, 100))
    return Picture(data=out.getvalue(), content_type=f"image/{form}")


def _alpha_only(data: bytes) -> Picture:
    from PIL import Image

    alpha = _alpha(_opened(data))
    black = Image.new("RGBA", alpha.size)
    black.putalpha(alpha)
    return _png(black)


def _alpha(picture: Image.Image) -> Image.Image:
    """The picture's alpha; opaque where it has none."""
    return picture.convert("RGBA").getchannel("A")


def _png(picture: Image.Image, **options: object) -> Picture:
    out = io.BytesIO()
    picture.save(out, "PNG", **options)
    return Picture(data=out.getvalue(), content_type="image/png")


def _opened(data: bytes) -> Image.Image:
    """The decoded picture, unless it would take more memory than a gateway should give."""
    from PIL import Image

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours is the stricter limit
    Image.init()
    formats = [each for each in PICTURE_FORMATS if each in Image.OPEN and each not in WITHIN]
    picture = Image.open(io.BytesIO(data), formats=formats)
    if picture.width * picture.height > MAX_PIXELS:
        raise BadImage(f"a picture of {picture.width}x{picture.height} is too large to convert")
    picture.load()
    return picture
