"""Videos as nodes hand them on: files, or pictures with a sound. Members are called as node packs call them."""

from __future__ import annotations

import heapq
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
from torch import Tensor

from limner.errors import UnfitInput
from limner.nodes.fitting import pictures
from limner.nodes.media.audio import Audio, sound
from limner.nodes.media.audio_files import AAC, decoded_sound, encoded_sound, sound_stream
from limner.nodes.media.containers import Source, opened, writing
from limner.nodes.media.frames import (
    H264,
    SLACK_S,
    begins_at,
    decoded_pictures,
    encoded_pictures,
    picture_stream,
    timed,
    video_stream,
)

COPIED_FROM = ("mov", "matroska")
COPIED_PICTURES = ("h264", "hevc", "av1", "libdav1d", "vp9", "libvpx-vp9", "mpeg4")
COPIED_SOUNDS = ("aac", "mp3", "mp3float", "opus", "libopus", "flac", "ac3", "alac")
"""What an MP4 file takes over from those containers as it is, by the names of decoders."""


class VideoContainer(StrEnum):
    """Kinds of video files that can be written."""

    AUTO = "auto"
    MP4 = "mp4"

    @classmethod
    def as_input(cls) -> list[str]:
        """What a combo box offers."""
        return [each.value for each in cls]

    @classmethod
    def get_extension(cls, value: str) -> str:
        """The file name's ending, without a dot."""
        return "mp4" if cls(value) in (cls.AUTO, cls.MP4) else ""


class VideoCodec(StrEnum):
    """Ways to encode pictures."""

    AUTO = "auto"
    H264 = "h264"

    @classmethod
    def as_input(cls) -> list[str]:
        """What a combo box offers."""
        return [each.value for each in cls]


@dataclass(slots=True, kw_only=True)
class VideoComponents:
    """What a video is made of. images: (B, H, W, C) float32 in 0..1; frame_rate: frames per second."""

    images: Tensor
    frame_rate: Fraction
    audio: Audio | None = None
    metadata: dict[str, Any] | None = None


class VideoInput(ABC):
    """A video: what a VIDEO socket carries."""

    @abstractmethod
    def get_components(self) -> VideoComponents:
        """All pictures, and the sound."""

    @abstractmethod
    def get_dimensions(self) -> tuple[int, int]:
        """Width and height in pixels."""

    @abstractmethod
    def get_duration(self) -> float:
        """Seconds."""

    @abstractmethod
    def get_frame_count(self) -> int:
        """How many pictures there are."""

    @abstractmethod
    def get_frame_rate(self) -> Fraction:
        """Pictures per second."""

    @abstractmethod
    def as_trimmed(
        self, start_time: float | None = None, duration: float | None = None, strict_duration: bool = False
    ) -> VideoInput | None:
        """The part from a time on, below 0 counted from the end, to the end or for some seconds.

        None where nothing is there, or, with `strict_duration`, less than asked for.
        """

    def save_to(
        self,
        path: str | Path | BinaryIO,
        format: VideoContainer | str = VideoContainer.AUTO,
        codec: VideoCodec | str = VideoCodec.AUTO,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes an MP4 file with these texts in it. Raises UnfitInput where it cannot be written."""
        VideoContainer(format), VideoCodec(codec)
        _write(self.get_components(), path, metadata or {})

    def get_stream_source(self) -> str | BinaryIO:
        """A file, or its content, to read from."""
        content = io.BytesIO()
        self.save_to(content)
        content.seek(0)
        return content

    def get_container_format(self) -> str:
        """FFmpeg's name of the file's kind."""
        return "mp4"


class VideoFromComponents(VideoInput):
    """Pictures, with a sound or without."""

    def __init__(self, components: VideoComponents) -> None:
        pictures(components.images, "images")
        self._components = components

    def get_components(self) -> VideoComponents:
        return self._components

    def get_dimensions(self) -> tuple[int, int]:
        _, height, width, _ = self._components.images.shape
        return width, height

    def get_duration(self) -> float:
        return float(len(self._components.images) / self._components.frame_rate)

    def get_frame_count(self) -> int:
        return len(self._components.images)

    def get_frame_rate(self) -> Fraction:
        return self._components.frame_rate

    def as_trimmed(
        self, start_time: float | None = None, duration: float | None = None, strict_duration: bool = False
    ) -> VideoInput | None:
        part = _part(self.get_duration(), start_time, duration, strict=strict_duration)
        if part is None:
            return None
        start, length = part
        rate = self.get_frame_rate()
        first, last = round(start * rate), round((start + length) * rate)
        images = self._components.images[first : max(last, first + 1)]
        if not len(images):
            return None
        return VideoFromComponents(
            VideoComponents(
                images=images,
                frame_rate=rate,
                audio=_cut(self._components.audio, start, length),
                metadata=self._components.metadata,
            )
        )


class VideoFromFile(VideoInput):
    """A video file, or a part of one. `name` is what messages call it.

    The file is kept open: it can be read as long as this object lives, also when its name is gone.
    """

    def __init__(
        self, file: str | Path | BinaryIO | Source, *, start_time: float = 0.0, duration: float = 0.0, name: str = ""
    ) -> None:
        self._source = Source.of(Path(file)) if isinstance(file, str | Path) else file
        self._start = start_time
        self._length = duration
        self.name = name or (Path(file).name if isinstance(file, str | Path) else "the video")

    def get_components(self) -> VideoComponents:
        with opened(self._reader(), self.name) as container:
            rate = self._rate(container)
            metadata = dict(container.metadata)
            images = decoded_pictures(container, self.name, self._start, self._length)
        with opened(self._reader(), self.name) as container:
            audio = decoded_sound(container, begins_at(video_stream(container, self.name)))
        if self._start or self._length:
            audio = _cut(audio, self._start, self._length or float(len(images) / rate))
        return VideoComponents(images=images, frame_rate=rate, audio=audio, metadata=metadata)

    def get_dimensions(self) -> tuple[int, int]:
        with opened(self._reader(), self.name) as container:
            stream = video_stream(container, self.name)
            frame = next(container.decode(stream), None)
            width, height = stream.width, stream.height
            return (height, width) if frame is not None and round(frame.rotation / 90) % 2 else (width, height)

    def get_duration(self) -> float:
        with opened(self._reader(), self.name) as container:
            stream = video_stream(container, self.name)
            if stream.duration and stream.time_base:
                whole = float(stream.duration * stream.time_base)
            elif container.duration:
                whole = container.duration / av.time_base
            else:
                whole = float(_count(container, stream) / self._rate(container))
        return min(self._length or whole, max(0.0, whole - self._start))

    def get_frame_count(self) -> int:
        if self._start or self._length:
            return round(self.get_duration() * self.get_frame_rate())
        with opened(self._reader(), self.name) as container:
            stream = video_stream(container, self.name)
            return stream.frames or _count(container, stream)

    def get_frame_rate(self) -> Fraction:
        with opened(self._reader(), self.name) as container:
            return self._rate(container)

    def get_container_format(self) -> str:
        with opened(self._reader(), self.name) as container:
            return str(container.format.name)

    def as_trimmed(
        self, start_time: float | None = None, duration: float | None = None, strict_duration: bool = False
    ) -> VideoInput | None:
        part = _part(self.get_duration(), start_time, duration, strict=strict_duration)
        if part is None:
            return None
        start, length = part
        return VideoFromFile(self._reader(), start_time=self._start + start, duration=length, name=self.name)

    def save_to(
        self,
        path: str | Path | BinaryIO,
        format: VideoContainer | str = VideoContainer.AUTO,
        codec: VideoCodec | str = VideoCodec.AUTO,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Takes pictures and sound over as they are where an MP4 file can hold them, and encodes them anew else."""
        wanted = VideoCodec(codec)
        VideoContainer(format)
        if self._start or self._length or not self._copied(path, wanted, metadata or {}):
            super().save_to(path, format, codec, metadata)

    def _copied(self, path: str | Path | BinaryIO, codec: VideoCodec, metadata: Mapping[str, Any]) -> bool:
        with opened(self._reader(), self.name) as container:
            stream = video_stream(container, self.name)
            sounds = [each for each in container.streams.audio if each.codec_context is not None][:1]
            wanted = COPIED_PICTURES if codec == VideoCodec.AUTO else (codec.value,)
            fits = container.format.name.startswith(COPIED_FROM) and stream.codec_context.name in wanted
            if not fits or any(each.codec_context.name not in COPIED_SOUNDS for each in sounds):
                return False
            try:
                with _mp4(path, {**container.metadata, **metadata}) as output:
                    copies = {each: output.add_stream_from_template(each) for each in (stream, *sounds)}
                    for packet in heapq.merge(*(timed(self._packets(each.index), each) for each in copies), key=_time):
                        packet.stream = copies[stream if packet.stream.index == stream.index else sounds[0]]
                        output.mux(packet)
            except (av.error.FFmpegError, ValueError):  # times or parameters that MP4 does not take
                return False
        return True

    def _packets(self, index: int) -> Iterator[av.Packet]:
        with opened(self._reader(), self.name) as container:
            yield from container.demux(container.streams[index])

    def _reader(self) -> BinaryIO | Source:
        if isinstance(self._source, Source):
            return self._source.again()
        self._source.seek(0)
        return io.BytesIO(self._source.read())

    def _rate(self, container: av.container.InputContainer) -> Fraction:
        stream = video_stream(container, self.name)
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        if not rate or rate <= 0:
            raise UnfitInput(f"{self.name} does not tell how many frames it shows per second")
        return Fraction(rate)


def _count(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> int:
    return sum(1 for packet in container.demux(stream) if packet.size)


def _part(
    whole: float, start_time: float | None, duration: float | None, *, strict: bool
) -> tuple[float, float] | None:
    """Start and length in seconds of a part of a video, or None where it does not have it."""
    start = start_time or 0.0
    start = max(0.0, whole + start) if start < 0 else start
    left = whole - start
    if left <= SLACK_S or (strict and duration and duration > left + SLACK_S):
        return None
    return start, min(duration or left, left)


def _cut(audio: Audio | None, start: float, length: float) -> Audio | None:
    """The part of a sound that goes with a part of a video; None where it has ended before."""
    if audio is None:
        return None
    rate = audio["sample_rate"]
    waveform = audio["waveform"][..., round(start * rate) : round((start + length) * rate)]
    return {"waveform": waveform, "sample_rate": rate} if waveform.shape[-1] else None


def _mp4(path: str | Path | BinaryIO, texts: Mapping[str, Any]) -> av.container.OutputContainer:
    target = str(path) if isinstance(path, Path) else path
    fast = "+faststart" if isinstance(target, str) else ""  # for that, FFmpeg reads the file again
    output = av.open(target, "w", format="mp4", container_options={"movflags": f"use_metadata_tags{fast}"})
    output.metadata.update({key: text if isinstance(text, str) else json.dumps(text) for key, text in texts.items()})
    return output


def _write(video: VideoComponents, path: str | Path | BinaryIO, texts: Mapping[str, Any]) -> None:
    images = pictures(video.images, "images")
    with writing("the video"), _mp4(path, texts) as output:
        stream = picture_stream(output, images, video.frame_rate, H264)
        waveform, rate = sound(video.audio) if video.audio is not None else (None, 0)
        has_sound = waveform is not None and waveform.shape[-1] > 0
        beside = sound_stream(output, waveform[0], rate, AAC) if has_sound and waveform is not None else None
        parts = [encoded_pictures(stream, images)]
        if beside is not None and waveform is not None:
            parts.append(encoded_sound(beside, waveform[0], rate, AAC))
        for packet in heapq.merge(*parts, key=_time):
            output.mux(packet)


def _time(packet: av.Packet) -> float:
    """When a packet is wanted, in seconds: those of pictures and sound are written by turns."""
    return float((packet.dts or 0) * (packet.time_base or 0))
