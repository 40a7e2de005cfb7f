"""Parts of the small VAE by Ollin Boer Bohan, github.com/madebyollin/taesd (MIT)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from limner.compat.unoffered import no_class
from limner.errors import UnfitInput

TAESD = no_class("comfy.taesd.taesd", "TAESD")


def conv(n_in: int, n_out: int, **kwargs: Any) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, padding=1, **kwargs)


class Clamp(nn.Module):
    """Softly within -3..3."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    """Three convolutions beside a way past them."""

    def __init__(self, n_in: int, n_out: int, use_midblock_gn: bool = False) -> None:
        super().__init__()
        if use_midblock_gn:
            raise UnfitInput("Limner's comfy.taesd.taesd.Block has no norm in its middle (use_midblock_gn)")
        self.conv = nn.Sequential(conv(n_in, n_out), nn.ReLU(), conv(n_out, n_out), nn.ReLU(), conv(n_out, n_out))
        self.skip: nn.Module = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1, bias=False)
        self.fuse = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        fused: Tensor = self.fuse(self.conv(x) + self.skip(x))
        return fused
