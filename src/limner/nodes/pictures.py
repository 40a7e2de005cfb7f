"""Pictures between files and tensors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pictures
from PIL import ImageOps, ImageSequence, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from limner.errors import BadImage, UnfitInput
from limner.graph.file_types import BROKEN_PICTURE, PICTURE_FORMATS
from limner.nodes.memory import check_room

PIXEL_LIMIT = 89_478_485
"""Pixels of all frames together that a file may have; a file of few bytes can name any number."""

NO_MASK_PX = 64
"""Edge of the empty mask of a picture without transparency."""


def read_pictures(path: Path, name: str) -> tuple[Tensor, Tensor]:
    """A file's frames (B, H, W, 3) float32 in 0..1, and their masks (B, H, W), 1 where transparent.

    Frames of another size than the first are left out. Raises BadImage.
    """
    with _opened(path, name) as file:
        pairs = [(_colours(frame), _transparency(frame)) for frame in _frames(file, name)]
    return torch.stack([colours for colours, _ in pairs]), torch.stack([mask for _, mask in pairs])


def read_channel(path: Path, name: str, channel: str) -> Tensor:
    """A channel of a file's first frame as a mask (1, H, W) float32; alpha is turned round. Raises BadImage."""
    with _opened(path, name) as file:
        frame = _eight_bits(next(_frames(file, name))).convert("RGBA")
        values = torch.from_numpy(np.array(frame.getchannel(channel[0].upper()), dtype=np.float32) / 255)
    return (1 - values if channel == "alpha" else values)[None]


def to_bytes(images: Tensor) -> np.ndarray:
    """Pictures (B, H, W, C) in 0..1 as 8-bit values: 255 times, cut and not rounded. Raises UnfitInput."""
    if images.ndim != 4 or 0 in images.shape or images.shape[-1] not in (1, 3, 4):
        raise UnfitInput(
            f"pictures of the shape {tuple(images.shape)} cannot be written: (batch, height, width, channels) with "
            "1, 3 or 4 channels is wanted"
        )
    values: np.ndarray = images.detach().cpu().float().mul(255).nan_to_num(0).clamp(0, 255).to(torch.uint8).numpy()
    return values


def write_png(picture: np.ndarray, path: Path, texts: dict[str, str], compress_level: int) -> None:
    """Writes one picture (H, W, C) uint8 with these text chunks."""
    chunks = PngInfo()
    for key, text in texts.items():
        chunks.add_text(key, text)
    values = picture[..., 0] if picture.shape[-1] == 1 else picture
    Pictures.fromarray(values).save(path, "PNG", pnginfo=chunks, compress_level=compress_level)


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Pictures.Image]:
    """An open picture file. What goes wrong inside the `with` because of its bytes becomes BadImage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pictures.DecompressionBombWarning)
            Pictures.init()
            with Pictures.open(path, formats=[each for each in PICTURE_FORMATS if each in Pictures.OPEN]) as file:
                yield file
    except Pictures.DecompressionBombError as error:
        raise _too_large(name) from error
    except UnidentifiedImageError as error:
        raise BadImage(f"{name} is not a picture of a known format") from error
    except BROKEN_PICTURE as error:
        raise BadImage(f"{name} is damaged or cut short ({error})") from error


def _frames(file: Pictures.Image, name: str) -> Iterator[Pictures.Image]:
    """The frames that make the batch, upright, each still in its own mode."""
    count = 1 if file.format == "MPO" else getattr(file, "n_frames", 1)
    if file.width * file.height * count > PIXEL_LIMIT:
        raise _too_large(name)
    check_room(count, file.height, file.width, 4)
    size: tuple[int, int] | None = None
    for number, frame in enumerate(ImageSequence.Iterator(file)):
        if number >= count:
            return
        upright = ImageOps.exif_transpose(frame)
        size = size or upright.size
        if upright.size == size:
            yield upright


def _colours(frame: Pictures.Image) -> Tensor:
    return torch.from_numpy(np.array(_eight_bits(frame).convert("RGB"), dtype=np.float32) / 255)


def _eight_bits(frame: Pictures.Image) -> Pictures.Image:
    """The frame; where it has 16 bits or more a value, in the range of eight."""
    if frame.mode.startswith("I"):
        return frame.convert("I").point(lambda value: value * (1 / 255))
    return frame


def _transparency(frame: Pictures.Image) -> Tensor:
    if "A" not in frame.getbands() and "transparency" not in frame.info:
        return torch.zeros(NO_MASK_PX, NO_MASK_PX)
    alpha = frame.convert("RGBA").getchannel("A")
    return 1 - torch.from_numpy(np.array(alpha, dtype=np.float32) / 255)


def _too_large(name: str) -> BadImage:
    return BadImage(f"{name} has more than {PIXEL_LIMIT // 1_000_000} million pixels, which is not opened")
