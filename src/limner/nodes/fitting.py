"""What nodes ask of pictures, masks and latents before they work on them, and how different ones are made alike."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from limner.diffusion.latents import Latent
from limner.errors import UnfitInput

COLOURS = 3


def pictures(image: Tensor, name: str = "image") -> Tensor:
    """The pictures themselves. Raises UnfitInput unless they are (B, H, W, C) with something in every dimension."""
    if image.ndim != 4 or 0 in image.shape:
        raise UnfitInput(
            f"{name} has the shape {tuple(image.shape)}; pictures are (batch, height, width, channels), none of them 0"
        )
    return image


def coloured(image: Tensor, name: str = "image") -> Tensor:
    """Pictures with at least red, green and blue. Raises UnfitInput."""
    if pictures(image, name).shape[-1] < COLOURS:
        raise UnfitInput(f"{name} has {image.shape[-1]} channel(s); red, green and blue are wanted")
    return image


def masks(mask: Tensor, name: str = "mask") -> Tensor:
    """Masks as (B, H, W): a single (H, W) becomes a batch, (B, 1, H, W) loses its channel. Raises UnfitInput."""
    if mask.ndim not in (2, 3, 4) or 0 in mask.shape:
        raise UnfitInput(f"{name} has the shape {tuple(mask.shape)}; masks are (batch, height, width), none of them 0")
    return mask.reshape(-1, *mask.shape[-2:])


def samples_of(latent: Latent, name: str = "samples") -> Tensor:
    """A latent's tensor. Raises UnfitInput where it has no batch and channels, or nothing in it."""
    samples = latent["samples"]
    if samples.ndim < 3 or 0 in samples.shape:
        raise UnfitInput(f"{name} has the shape {tuple(samples.shape)}; latents are (batch, channels, ...), none 0")
    return samples


def planes_of(latent: Latent, name: str = "samples") -> Tensor:
    """The tensor of a latent of pictures (B, C, h, w) or videos (B, C, t, h, w). Raises UnfitInput."""
    samples = samples_of(latent, name)
    if samples.ndim not in (4, 5):
        raise UnfitInput(f"{name} has the shape {tuple(samples.shape)}, which has no height and width")
    return samples


def counted(**numbers: int) -> None:
    """Raises UnfitInput where one of these is negative: links may bring numbers that no widget would take."""
    for name, number in numbers.items():
        if number < 0:
            raise UnfitInput(f"{name} is {number}; it is counted from 0")


def repeated(batch: Tensor, count: int) -> Tensor:
    """A batch of this many items: repeated from the start where it has fewer, cut where it has more."""
    if len(batch) < count:
        batch = batch.repeat(-(-count // len(batch)), *[1] * (batch.ndim - 1))
    return batch[:count]


def with_channels(image: Tensor, count: int) -> Tensor:
    """Pictures with this many channels: grey is repeated, alpha is cut off or added, opaque. Raises UnfitInput."""
    now = image.shape[-1]
    if now == 1 and count >= COLOURS:
        image, now = image.expand(*image.shape[:-1], COLOURS), COLOURS
    if now == COLOURS and count == COLOURS + 1:
        return F.pad(image, (0, 1), value=1.0)
    if now < count:
        raise UnfitInput(f"pictures of {now} channels cannot be joined with pictures of {count}")
    return image[..., :count]


def alike(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Two pictures with the channels of the one that has more."""
    most = max(one.shape[-1], other.shape[-1])
    return with_channels(one, most), with_channels(other, most)
