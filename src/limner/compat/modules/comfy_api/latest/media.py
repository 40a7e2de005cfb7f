"""Values that nodes pass on, as types to annotate with, and videos made of files or of pictures."""

from __future__ import annotations

from typing import Any, TypedDict

from torch import Tensor

from limner.nodes.media import video


class AudioInput(TypedDict):
    """`waveform`: (batch, channels, samples)."""

    waveform: Tensor
    sample_rate: int


class LatentInput(TypedDict, total=False):
    """`samples`: (B, C, h, w)."""

    samples: Tensor
    noise_mask: Tensor
    batch_index: list[int]


class _Members(type):
    """Says what is missing of a group of names."""

    def __getattr__(cls, name: str) -> Any:
        found = getattr(video, name, None)
        if found is None or name.startswith("_"):
            raise AttributeError(f"Limner's stand-in for comfy_api.latest.{cls.__name__} has no {name}", name=name)
        return found


class Input(metaclass=_Members):
    Image = Tensor
    Mask = Tensor
    Audio = AudioInput
    Latent = LatentInput
    Video = video.VideoInput


class InputImpl(metaclass=_Members):
    """VideoFromFile, VideoFromComponents."""


class Types(metaclass=_Members):
    """VideoCodec, VideoContainer, VideoComponents."""
