"""Writes AVIF pictures, still or moving, of 8 or 10 bits.

Pillow writes those of 8 bits in sRGB, still or moving for ever, with the texts as EXIF. All others come from FFmpeg,
which cannot write EXIF there; their texts stand in an XMP box at the file's end (ISO 16684-3, annex A).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from xml.sax.saxutils import escape

import av
import numpy as np
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from limner.errors import UnfitInput
from limner.graph.file_types import BROKEN_PICTURE
from limner.nodes.media.animations import as_pictures, exif_texts, milliseconds
from limner.nodes.media.containers import writing
from limner.nodes.media.frames import frame_rate

HIGHEST_CRF = 63
XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
XMP_NAMESPACE = "https://comfy.org/workflow/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours:
    """What colours values stand for, in FFmpeg's numbers, and the matrix that makes brightness of them."""

    primaries: int
    transfer: int
    matrix: Colorspace


SRGB = Colours(primaries=1, transfer=13, matrix=Colorspace.ITU709)
HLG = Colours(primaries=9, transfer=18, matrix=Colorspace.BT2020)
PQ = Colours(primaries=9, transfer=16, matrix=Colorspace.BT2020)


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """How pictures move: so many a second, shown `loops` times, for ever where that is 0."""

    fps: float
    loops: int


def write_avif(
    values: np.ndarray,
    path: Path,
    *,
    bits: int,
    crf: int,
    colours: Colours,
    motion: Motion | None,
    texts: Mapping[str, str],
) -> None:
    """Writes pictures (B, H, W, 1 or 3) float32 in 0..1, one without motion. Raises UnfitInput."""
    if bits == 8 and colours is SRGB and (motion is None or not motion.loops):
        _by_pillow(values, path, crf, motion, texts)
    else:
        _by_ffmpeg(values, path, bits, crf, colours, motion)
        with path.open("ab") as file:
            file.write(_xmp_box(texts))


def _by_pillow(values: np.ndarray, path: Path, crf: int, motion: Motion | None, texts: Mapping[str, str]) -> None:
    first, *others = (each.convert("RGB") for each in as_pictures((values * 255).round().astype(np.uint8)))
    quality = round((HIGHEST_CRF - crf) / HIGHEST_CRF * 100)
    exif = exif_texts(texts).tobytes()
    moving = {} if motion is None else {"duration": milliseconds(motion.fps), "append_images": others}
    try:
        first.save(path, "AVIF", quality=quality, subsampling="4:2:0", exif=exif, save_all=bool(others), **moving)
    except (*BROKEN_PICTURE, RuntimeError) as error:  # the latter from libavif
        raise UnfitInput(f"pictures of {first.width} x {first.height} pixels cannot be AVIF: {error}") from error


def _by_ffmpeg(values: np.ndarray, path: Path, bits: int, crf: int, colours: Colours, motion: Motion | None) -> None:
    pixels = "yuv420p" if bits == 8 else "yuv420p10le"
    deep = (
        np.pad(values, ((0, 0), (0, values.shape[1] % 2), (0, values.shape[2] % 2), (0, 0)), "edge") * 65535
    ).round()
    options = {"loop": str(motion.loops)} if motion else {}
    with writing("the AVIF picture"), av.open(str(path), "w", format="avif", container_options=options) as output:
        rate = frame_rate(motion.fps if motion else 1)
        stream = cast(VideoStream, output.add_stream("libsvtav1", rate=rate, options={"crf": str(crf), "preset": "6"}))
        stream.height, stream.width = deep.shape[1:3]
        stream.pix_fmt = pixels
        context = stream.codec_context
        context.color_primaries, context.color_trc = colours.primaries, colours.transfer
        context.colorspace, context.color_range = int(colours.matrix), 1
        for number, picture in enumerate(deep.astype(np.uint16)):
            whole = np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))
            frame = av.VideoFrame.from_ndarray(whole, format="rgb48le")
            frame = frame.reformat(format=pixels, dst_colorspace=colours.matrix)
            frame.pts, frame.time_base = number, 1 / rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _xmp_box(texts: Mapping[str, str]) -> bytes:
    if not texts:
        return b""
    inside = "".join(f"<c:text c:name={_quoted(key)}>{escape(text)}</c:text>" for key, text in texts.items())
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:c="{XMP_NAMESPACE}"><c:texts rdf:parseType="Resource">{inside}</c:texts>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()
    return struct.pack(">I", 8 + len(XMP_BOX) + len(packet)) + b"uuid" + XMP_BOX + packet


def _quoted(key: str) -> str:
    return '"' + escape(key, {'"': "&quot;"}) + '"'
