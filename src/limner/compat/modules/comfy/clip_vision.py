"""CLIP's vision networks, as packs load and ask them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from limner.compat.kinds import of_kind
from limner.compat.state import library, weights_of
from limner.models.clip_vision import CLIP_MEAN, CLIP_STD, ClipVision, load_clip_vision, prepared
from limner.models.weights import open_weights

ClipVisionModel = of_kind("ClipVisionModel", ClipVision, "comfy.clip_vision")


class Output:
    """What was seen, with members that packs give it."""

    def __getitem__(self, key: str) -> Any:
        return getattr(self, key)

    def __setitem__(self, key: str, item: Any) -> None:
        setattr(self, key, item)


def clip_preprocess(
    image: Tensor,
    size: int = 224,
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
    crop: bool = True,
) -> Tensor:
    """Pictures (B, H, W, 3) as such a network takes them, (B, 3, size, size)."""
    return prepared(image, size, tuple(mean), tuple(std), crop=crop)


def load(ckpt_path: str) -> ClipVision:
    """The vision network of a file."""
    return load_clip_vision(open_weights(Path(ckpt_path)), library().devices)


def load_clipvision_from_sd(sd: Mapping[str, Any], prefix: str = "", convert_keys: bool = False) -> ClipVision:
    """The vision network among these tensors, whose names begin with a prefix. Layouts are told by themselves."""
    weights = weights_of(sd)
    return load_clip_vision(weights.under(prefix) if prefix else weights, library().devices)
