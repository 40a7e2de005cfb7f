"""For which models a LoRA looks made, told from its names and widths: a help in errors, never a reason to refuse."""

from __future__ import annotations

from limner.models.lora.read import LoraFile
from limner.models.lora.sums import Sum

WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}
"""Widths of the text that cross-attention looks at; 1280 is the refiner's, but also that of SDXL's own states."""

NAMES = (
    ("double_blocks", "Flux.1"),
    ("single_transformer_blocks", "Flux.1"),
    ("joint_blocks", "Stable Diffusion 3"),
    ("context_refiner", "Z-Image or Lumina 2"),
    ("img_mod", "Qwen-Image"),
    ("cross_attn", "Wan"),
    ("adaLN_modulation", "a transformer model such as Z-Image"),
    ("joint_transformer_blocks", "AuraFlow"),
)


def looks_made_for(lora: LoraFile) -> str | None:
    """The family that a LoRA seems to be for; None where nothing tells."""
    for name, module in lora.modules.items():
        if name.endswith(("attn2_to_k", "attn2.to_k")) and isinstance(module.weight, Sum):
            size = module.weight.size()
            if size is not None and size[1] in WIDTHS:
                return WIDTHS[size[1]]
    for part, family in NAMES:
        if any(part in name for name in lora.modules):
            return family
    return None
