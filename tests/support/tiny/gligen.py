"""A GLIGEN model with random weights for `checkpoints.SD15`."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from limner.models.gligen import Grounding

PLACES = {"input_blocks.1.1.": 64, "middle_block.1.": 128, "output_blocks.2.1.": 64, "output_blocks.3.1.": 64}
"""The transformers of the tiny UNet in order, and their widths."""


def grounding() -> Grounding:
    torch.manual_seed(0)
    made = Grounding(phrase_width=64, token_width=64, widths=list(PLACES.values()))
    for fuser in made.fusers:
        nn.init.constant_(fuser.get_parameter("alpha_attn"), 0.7)
        nn.init.constant_(fuser.get_parameter("alpha_dense"), -0.4)
    for name in ("null_positive_feature", "null_position_feature"):
        nn.init.normal_(made.position_net.get_parameter(name))
    return made.eval().requires_grad_(False)


def save_gligen(path: Path) -> Path:
    """In the layout of published files."""
    saved = {}
    for key, weight in grounding().state_dict().items():
        name, _, rest = key.removeprefix("fusers.").partition(".")
        place = f"{list(PLACES)[int(name)]}transformer_blocks.0.fuser." if key.startswith("fusers.") else f"{name}."
        saved[place + rest] = weight
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(saved, path)
    return path
