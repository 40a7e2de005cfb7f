"""Media files through FFmpeg: which are opened, and how its faults are told."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer

from limner.errors import UnfitInput

FORMATS = (
    "mov", "mp4", "matroska", "webm", "avi", "flv", "mpegts", "mpeg", "mpegvideo", "m4v", "asf", "ogg", "wav", "w64",
    "mp3", "flac", "aac", "ac3", "aiff", "au", "caf", "amr", "gif", "apng", "ivf", "h264", "hevc", "obu", "rm",
)  # fmt: skip
"""What is read of all that FFmpeg knows: files of one piece. A playlist would let it read others of the machine's."""

PIXEL_LIMIT = 89_478_485
"""Pixels that one frame may have."""


class _OpenFile:
    """A file's descriptor, closed with the last object that refers to this one."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size


class Source(io.RawIOBase):
    """A file that stays readable as long as this object lives, even if its name is gone."""

    def __init__(self, file: _OpenFile) -> None:
        super().__init__()
        self._file = file
        self._place = 0

    @classmethod
    def of(cls, path: Path) -> Source:
        """A reader of this file. Raises OSError where there is none."""
        return cls(_OpenFile(path))

    def again(self) -> Source:
        """Another reader of the same file, at its beginning."""
        return Source(self._file)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = self._file.size - self._place if size < 0 else size
        data = os.pread(self._file.descriptor, max(0, wanted), self._place)
        self._place += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        ends = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._file.size}
        self._place = max(0, ends[whence] + offset)
        return self._place

    def tell(self) -> int:
        return self._place


@contextmanager
def opened(source: Path | BinaryIO | Source, name: str) -> Iterator[InputContainer]:
    """A media file to read from. `name` is what messages call it. Raises UnfitInput where it is none or is damaged."""
    file = Source.of(source) if isinstance(source, Path) else source
    try:
        options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
        with av.open(file, options=options, metadata_errors="replace") as container:
            for stream in container.streams.video:
                if stream.codec_context is not None:  # FFmpeg knows its codec
                    stream.codec_context.options = {"max_pixels": str(PIXEL_LIMIT)}
            yield container
    except (av.error.FFmpegError, ValueError) as error:  # the latter where a stream changes its form midway
        raise UnfitInput(
            f"{name} is no sound or video that can be read, or is damaged or cut short ({error})"
        ) from error


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Tells what FFmpeg refuses to write as UnfitInput."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise UnfitInput(f"{what} cannot be written: {error}") from error
