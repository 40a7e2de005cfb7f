"""Pictures in other forms, against what was recorded; bytes that are no picture are refused."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image, PngImagePlugin

from limner.comfy.dialect.pictures import converted, with_alpha_of
from limner.errors import BadImage
from tests.unit.comfy.recordings import TRANSCRIPTS

VIEWS = {
    each["request"]["path"]: each["response"]
    for each in json.loads((TRANSCRIPTS / "31_view.json").read_text())["exchanges"]
    if "body_base64" in each["response"] and "headers" not in each["request"]
}
ORIGINALS = {name: base64.b64decode(VIEWS[f"/view?filename={name}&type=input"]["body_base64"]) for name in ("v.png",)}


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    "path", [each for each in VIEWS if "v.png" in each and ("preview" in each or "channel" in each)]
)
def test_conversions_give_the_recorded_pictures(path: str) -> None:
    query = parse_qs(urlsplit(path).query, keep_blank_values=True)
    expected = VIEWS[path]
    preview, channel = (query.get(name, [None])[0] for name in ("preview", "channel"))
    picture = converted(ORIGINALS["v.png"], preview=preview, channel=channel)
    if picture is None:
        assert expected["headers"]["content-type"] == "image/png"
        assert channel in ("rgba", "zzz")
        return
    assert picture.content_type == expected["headers"]["content-type"]
    ours, theirs = opened(picture.data), opened(base64.b64decode(expected["body_base64"]))
    assert (ours.format, ours.mode, ours.size) == (theirs.format, theirs.mode, theirs.size)
    if ours.format == "PNG":
        assert ours.tobytes() == theirs.tobytes()
        assert "prompt" not in ours.info


def test_a_picture_without_alpha_counts_as_opaque() -> None:
    picture = converted(png(Image.new("RGB", (4, 3), "red")), preview=None, channel="a")
    assert picture is not None
    assert set(opened(picture.data).getchannel("A").tobytes()) == {255}


def test_a_mask_replaces_the_alpha_and_keeps_the_text() -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", "{}")
    original = png(Image.new("RGB", (4, 3), "red"), pnginfo=texts)
    mask = png(Image.new("RGBA", (4, 3), (0, 0, 0, 7)))
    result = opened(with_alpha_of(original, mask))
    assert result.getpixel((0, 0)) == (255, 0, 0, 7)
    assert result.info["prompt"] == "{}"


def bomb(edge: int) -> bytes:
    """A PNG of edge x edge pixels in a few bytes."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", edge, edge, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(bytes(1000))) + part(b"IEND", b"")


@pytest.mark.parametrize(
    "data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", bomb(11_000), bomb(60_000), bomb(64), b"GIF89a\x01\x00\x01\x00"]
)
def test_what_is_no_picture_or_too_large_is_refused(data: bytes) -> None:
    with pytest.raises(BadImage):
        converted(data, preview="webp;90", channel=None)


@pytest.mark.parametrize(("size", "preview"), [((17_000, 4), "webp"), ((4, 17_000), "webp"), ((66_000, 2), "jpeg")])
def test_a_picture_that_the_other_format_cannot_hold_is_refused(size: tuple[int, int], preview: str) -> None:
    with pytest.raises(BadImage):
        converted(png(Image.new("RGB", size)), preview=preview, channel=None)


@pytest.mark.parametrize("size", [(8193, 8193), (20_000, 20_000)])
def test_no_more_pixels_are_unpacked_than_a_gateway_has_room_for(size: tuple[int, int]) -> None:
    mask = png(Image.new("RGBA", (1, 1)))
    large = png(Image.new("1", size))
    for attempt in (
        lambda: converted(large, preview=None, channel="a"),
        lambda: with_alpha_of(large, mask),
        lambda: with_alpha_of(mask, large),
    ):
        with pytest.raises(BadImage, match="too large"):
            attempt()


def test_an_icon_that_hides_a_large_picture_is_refused() -> None:
    inner = png(Image.new("1", (9000, 9000)))
    head = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    with pytest.raises(BadImage):
        converted(head + inner, preview="webp", channel=None)


def test_half_a_picture_is_refused() -> None:
    whole = png(Image.effect_noise((64, 64), 50))
    with pytest.raises(BadImage):
        converted(whole[: len(whole) // 2], preview="jpeg", channel=None)


def png(picture: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", **options)
    return out.getvalue()
