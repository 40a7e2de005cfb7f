"""Pictures into video streams and out of them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import av
import numpy as np
import torch
from av.video.reformatter import Colorspace
from torch import Tensor

from limner.engine.context import current_or_none
from limner.errors import UnfitInput
from limner.nodes.media.containers import PIXEL_LIMIT
from limner.nodes.memory import check_room
from limner.nodes.pictures import to_bytes

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.video.stream import VideoStream

BT709 = 1
"""FFmpeg's number for the colours, the transfer curve and the matrix of Rec. 709."""

LIMITED_RANGE = 1
FINEST_RATE = 100_000
FRAMES_BETWEEN_LOOKS = 32
SLACK_S = 1e-4
"""By how much times that are equal may differ, in seconds."""

os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder writes about itself to stderr else


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoCodec:
    """How pictures are encoded."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    pixels: str = "yuv420p"


H264 = VideoCodec(name="libx264", options={"crf": "18"})


def frame_rate(fps: float) -> Fraction:
    """Frames per second as a fraction. Raises UnfitInput where it is no number above 0."""
    if not 0 < fps < math.inf:
        raise UnfitInput(f"{fps} frames per second; a number above 0 is wanted")
    return Fraction(fps).limit_denominator(FINEST_RATE) or Fraction(1, FINEST_RATE)


def picture_stream(output: OutputContainer, images: Tensor, rate: Fraction, codec: VideoCodec) -> VideoStream:
    """A stream of a new file for pictures (B, H, W, C); an odd edge gets one more row or column."""
    _, height, width, _ = images.shape
    stream = cast("VideoStream", output.add_stream(codec.name, rate=rate, options=dict(codec.options)))
    stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, codec.pixels
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = LIMITED_RANGE
    return stream


def encoded_pictures(stream: VideoStream, images: Tensor) -> Iterator[av.Packet]:
    """The packets of pictures (B, H, W, 1, 3 or 4), of which colours are kept and transparency is not."""
    for index in range(len(images)):
        _stop_if_asked()
        picture = to_bytes(images[index : index + 1])[0]
        picture = np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else picture[..., :3]
        height, width, _ = picture.shape
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = frame.reformat(format=stream.pix_fmt, dst_colorspace=Colorspace.ITU709)
        frame.pts, frame.time_base = index, 1 / stream.average_rate if stream.average_rate else None
        yield from stream.encode(frame)
    yield from stream.encode(None)


def decoded_pictures(container: InputContainer, name: str, start: float = 0.0, duration: float = 0.0) -> Tensor:
    """The frames of the first video stream as (B, H, W, 3) float32 in 0..1, upright, all of the first one's size.

    From `start` seconds on, for `duration` seconds, or to the end where that is 0. Raises UnfitInput where there are
    none, and OutOfMemory where they are too many.
    """
    stream = video_stream(container, name)
    kept: list[np.ndarray] = []
    for frame in _frames(container, stream, start, duration):
        if frame.width * frame.height > PIXEL_LIMIT:
            raise UnfitInput(f"{name} has frames of {frame.width} x {frame.height} pixels, which are not opened")
        picture = _upright(frame)
        if kept and picture.shape != kept[0].shape:
            height, width, _ = kept[0].shape
            picture = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
        kept.append(picture)
        _stop_if_asked()
        if len(kept) % FRAMES_BETWEEN_LOOKS == 1:
            check_room(len(kept), *kept[0].shape)
    if not kept:
        raise UnfitInput(f"{name} has no frame in the wanted part")
    check_room(len(kept), *kept[0].shape)
    images = torch.empty(len(kept), *kept[0].shape)
    for index, each in enumerate(kept):
        images[index] = torch.from_numpy(each)
    return images.div_(255)


def video_stream(container: InputContainer, name: str) -> VideoStream:
    """The first stream of pictures. Raises UnfitInput where there is none, or its pictures are too large."""
    stream = next((each for each in container.streams.video if each.codec_context is not None), None)
    if stream is None:
        raise UnfitInput(f"{name} has no pictures in it that can be read")
    if stream.width * stream.height > PIXEL_LIMIT:
        raise UnfitInput(f"{name} has frames of {stream.width} x {stream.height} pixels, which are not opened")
    return stream


def timed(packets: Iterable[av.Packet], stream: av.stream.Stream) -> Iterator[av.Packet]:
    """The packets of a stream, each with a decoding time: Matroska leaves those of the first ones out."""
    waiting: list[av.Packet] = []
    known: int | None = None
    step = _ticks(stream)
    for packet in packets:
        if not packet.size:
            continue
        if packet.dts is None and known is None:
            waiting.append(packet)
            continue
        known = packet.dts if packet.dts is not None else (known or 0) + step
        packet.dts = known
        for before, early in enumerate(waiting):
            early.dts = known - step * (len(waiting) - before)
        yield from waiting
        waiting.clear()
        yield packet
    for number, packet in enumerate(waiting):
        packet.dts = number * step
        yield packet


def _ticks(stream: av.stream.Stream) -> int:
    """How long a packet of a stream lasts, in its own units of time."""
    rate = getattr(stream, "average_rate", None)
    return max(1, round(1 / (rate * stream.time_base))) if rate and stream.time_base else 1


def begins_at(stream: VideoStream) -> float:
    """The time of a stream's first frame, in seconds."""
    return float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0


def _frames(container: InputContainer, stream: VideoStream, start: float, duration: float) -> Iterable[av.VideoFrame]:
    zero = begins_at(stream)
    end = start + duration if duration else math.inf
    if start > 0 and stream.time_base:
        container.seek(int((zero + start) / stream.time_base), stream=stream)
    stream.thread_type = "AUTO"
    for frame in container.decode(stream):
        time = (frame.time or 0.0) - zero
        if time >= end - SLACK_S:
            return
        if time >= start - SLACK_S:
            yield frame


def _stop_if_asked() -> None:
    """Long videos take long. Raises Interrupted where the run was asked to stop."""
    run = current_or_none()
    if run is not None:
        run.check()


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """A frame (H, W, 3) uint8, turned as its display matrix says."""
    picture: np.ndarray = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(picture, k=round(frame.rotation / 90) % 4))
