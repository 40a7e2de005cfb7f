"""StyleModel: a picture, as CLIP sees it, turned into tokens that stand beside those of a prompt."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from limner.errors import UnfitInput
from limner.models.build import build
from limner.models.clip_vision import Seen
from limner.models.device import Devices
from limner.models.keys import KeyMap
from limner.models.patcher import Patcher
from limner.models.residency import use
from limner.models.weights import open_weights

HEADS = 8


class StyleAdapter(nn.Module):
    """The style adapter of T2I-Adapter (Mou et al. 2023, arXiv:2302.08453): it reads the picture's tokens anew.

    x: (B, tokens, width) to (B, `style_embedding` tokens, text width).
    """

    def __init__(self, *, width: int, text_width: int, tokens: int, layers: int) -> None:
        super().__init__()
        from diffusers.models.controlnets.controlnet_union import ResidualAttentionBlock

        self.transformer_layes = nn.Sequential(*(ResidualAttentionBlock(width, HEADS) for _ in range(layers)))
        self.style_embedding = nn.Parameter(torch.empty(1, tokens, width))
        self.ln_pre = nn.LayerNorm(width)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, text_width))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, self.style_embedding.expand(len(x), -1, -1)], dim=1)
        x = self.transformer_layes(self.ln_pre(x).transpose(0, 1)).transpose(0, 1)
        styled: Tensor = self.ln_post(x[:, -self.style_embedding.shape[1] :])
        return styled @ self.proj


class Redux(nn.Module):
    """Flux.1 Redux: each of the picture's tokens put into the space of the text."""

    def __init__(self, *, width: int, inner: int, text_width: int) -> None:
        super().__init__()
        self.redux_up = nn.Linear(width, inner)
        self.redux_down = nn.Linear(inner, text_width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.redux_down(nn.functional.silu(self.redux_up(x))))


class StyleModel(Patcher):
    """What a STYLE_MODEL socket carries. width: of the picture's tokens that it takes."""

    def __init__(self, network: nn.Module, name: str, *, width: int, device: torch.device) -> None:
        super().__init__(network, KeyMap.same(network, ""), device, torch.float32)
        self.name = name
        self.width = width

    @property
    def model(self) -> nn.Module:
        """The network itself."""
        return self.module

    def get_cond(self, seen: Seen) -> Tensor:
        """Tokens for a prompt, (B, tokens, text width), float32 on the CPU. Raises UnfitInput."""
        states = seen.last_hidden_state
        if states.shape[-1] != self.width:
            raise UnfitInput(
                f"{self.name} takes what a CLIP vision model of width {self.width} sees, and got {states.shape[-1]}; "
                "use the vision model it was made for"
            )
        with torch.inference_mode(), use(self):
            return cast(Tensor, self.module(states.to(self.load_device, torch.float32))).cpu()


def load_style_model(path: Path, devices: Devices) -> StyleModel:
    """A style model: T2I-Adapter's, or Flux Redux. Raises ModelFileError."""
    weights = open_weights(path)
    header = weights.header
    make: Callable[[], nn.Module]
    if "style_embedding" in weights:
        width, text_width = header.size("proj"), header.size("proj", 1)
        tokens, layers = header.size("style_embedding", 1), header.count("transformer_layes.{}.")
        make = partial(StyleAdapter, width=width, text_width=text_width, tokens=tokens, layers=layers)
    elif "redux_down.weight" in weights:
        width, inner = header.size("redux_up.weight", 1), header.size("redux_up.weight")
        make = partial(Redux, width=width, inner=inner, text_width=header.size("redux_down.weight"))
    else:
        raise header.fault("it is no style model that is known here (T2I-Adapter's style model, Flux Redux)")
    network = build(make, weights.tensors(), header=header, part="style model")
    return StyleModel(network, path.name, width=width, device=devices.device)
