"""Gligen: things placed into boxes. Li et al. 2023, arXiv:2301.07093.

A position net makes a token of each phrase and its box; between the two attentions of every transformer of the UNet, a
gated attention lets the picture look at these tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limner.errors import UnfitInput
from limner.models.build import build
from limner.models.checkpoint import Header
from limner.models.device import Devices
from limner.models.keys import KeyMap
from limner.models.patcher import Patcher
from limner.models.weights import open_weights

MOST_BOXES = 30
HEADS = 8
FUSER = re.compile(r"(input_blocks|middle_block|output_blocks)\.(\d+)\..*\.fuser\.(.+)")
ORDER = ("input_blocks", "middle_block", "output_blocks")

Position = tuple[Tensor, int, int, int, int]
"""A phrase's pooled vector (1, width), and its box in places: height, width, top, left."""

Patch = Callable[[Tensor, Mapping[str, Any]], Tensor]


class Grounding(nn.Module):
    """The position net, and a gated attention for each transformer of a UNet in the order of its blocks."""

    def __init__(self, *, phrase_width: int, token_width: int, widths: Sequence[int]) -> None:
        super().__init__()
        from diffusers.models.attention import GatedSelfAttentionDense
        from diffusers.models.embeddings import GLIGENTextBoundingboxProjection

        self.phrase_width = phrase_width
        self.widths = tuple(widths)
        self.position_net = GLIGENTextBoundingboxProjection(positive_len=phrase_width, out_dim=token_width)
        self.fusers = nn.ModuleList(
            GatedSelfAttentionDense(width, token_width, HEADS, width // HEADS) for width in widths
        )

    def set_position(self, latent_image_shape: Sequence[int], positions: Sequence[Position], device: Any) -> Patch:
        """What to do between the attentions, for latents of this shape and phrases in these boxes.

        Raises UnfitInput for too many boxes, and for phrases of another text encoder.
        """
        if len(positions) > MOST_BOXES:
            raise UnfitInput(f"GLIGEN places {MOST_BOXES} boxes at most, not {len(positions)}")
        height, width = latent_image_shape[-2:]
        boxes, phrases = torch.zeros(MOST_BOXES, 4), torch.zeros(MOST_BOXES, self.phrase_width)
        for number, (phrase, tall, wide, top, left) in enumerate(positions):
            if phrase.shape[-1] != self.phrase_width:
                raise UnfitInput(
                    f"this GLIGEN model takes phrases of width {self.phrase_width}, not {phrase.shape[-1]}; encode "
                    "them with the text encoder of the family it was made for"
                )
            boxes[number] = torch.tensor([left / width, top / height, (left + wide) / width, (top + tall) / height])
            phrases[number] = phrase.reshape(-1)
        filled = (torch.arange(MOST_BOXES) < len(positions)).float()
        return self._patch(boxes, filled, phrases, latent_image_shape[0], device)

    def set_empty(self, latent_image_shape: Sequence[int], device: Any) -> Patch:
        """The same without any box."""
        return self.set_position(latent_image_shape, (), device)

    def _patch(self, boxes: Tensor, filled: Tensor, phrases: Tensor, batch: int, device: Any) -> Patch:
        dtype = next(self.parameters()).dtype
        told = (each.to(device, dtype)[None].expand(batch, *each.shape) for each in (boxes, filled, phrases))
        tokens = self.position_net(*told)

        def between(x: Tensor, extra_options: Mapping[str, Any]) -> Tensor:
            place = extra_options["transformer_index"]
            if place >= len(self.widths) or x.shape[-1] != self.widths[place]:
                wanted = self.widths[place] if place < len(self.widths) else "none"
                raise UnfitInput(
                    f"this GLIGEN model was made for another family of models: its transformer {place} has the width "
                    f"{wanted}, the model's has {x.shape[-1]}"
                )
            fused: Tensor = self.fusers[place](x.to(dtype), tokens).to(x.dtype)
            return fused

        return between


class Gligen(Patcher):
    """What a GLIGEN socket carries."""

    def __init__(self, network: Grounding, name: str, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(network, KeyMap.same(network, ""), device, dtype)
        self.name = name

    @property
    def model(self) -> Grounding:
        """The network itself."""
        assert isinstance(self.module, Grounding)
        return self.module


def load_gligen(path: Path, devices: Devices) -> Gligen:
    """A GLIGEN model for boxes with phrases. Raises ModelFileError."""
    weights = open_weights(path)
    header = weights.header
    places = _places(header)
    if not places or "position_net.linears.0.weight" not in header:
        raise header.fault("it is no GLIGEN model for boxes with text (position_net.linears, fuser)")
    phrase_width = header.size("position_net.null_positive_feature")
    token_width = header.size("position_net.linears.4.weight")
    widths = [header.size(f"{prefix}linear.weight") for prefix in places]
    names = {key: key for key in header.shapes if key.startswith("position_net.")}
    for number, prefix in enumerate(places):
        names |= {key: f"fusers.{number}.{key.removeprefix(prefix)}" for key in header.shapes if key.startswith(prefix)}
    network = build(
        lambda: Grounding(phrase_width=phrase_width, token_width=token_width, widths=widths),
        weights.renamed(names).tensors(),
        header=header,
        part="GLIGEN model",
    )
    dtype = devices.network_dtype(sum(weight.numel() for weight in network.parameters()))
    return Gligen(network, path.name, devices.device, dtype)


def _places(header: Header) -> list[str]:
    """The prefixes of the gated attentions' keys, in the order of the blocks."""
    found: dict[tuple[int, int], str] = {}
    for key in header.shapes:
        place = FUSER.fullmatch(key)
        if place is not None:
            found[ORDER.index(place[1]), int(place[2])] = key.removesuffix(place[3])
    return [found[place] for place in sorted(found)]
