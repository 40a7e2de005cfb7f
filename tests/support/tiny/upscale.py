"""A small ESRGAN (RRDBNet in the layout of Real-ESRGAN) with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from limner.models.upscale.architectures import spandrel


def save_upscale_model(path: Path, *, scale: int = 2, width: int = 64, blocks: int = 1) -> Path:
    """An upscale model of this scale; what it makes of a picture is nothing to look at."""
    spandrel()
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

    torch.manual_seed(0)
    network = RRDBNet(in_nc=3, out_nc=3, num_filters=width, num_blocks=blocks, scale=scale)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), path)
    return path
