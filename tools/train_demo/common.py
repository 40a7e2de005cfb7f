"""What the stages share: sizes, the noise schedule, the networks, saved state and pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

PIXELS = 64  # side of a picture
LENGTH = 32  # tokens of a prompt, start and end included
SCALE = 0.18215  # latent scale of Stable Diffusion 1.x
UNET_WIDTHS = (96, 128)  # at 8x8 and 4x4
UNET_HEADS = 8
VAE_WIDTHS = (32, 32, 64, 64)
VAE_GROUPS = 8
TEXT_WIDTH, TEXT_LAYERS = 128, 2

BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
ALPHAS = (1 - BETAS).cumprod(0).float()  # share of signal power left at each of the 1000 steps


def make_vae() -> AutoencoderKL:
    """The picture encoder and decoder: 64x64x3 to 8x8x4 and back."""
    levels = len(VAE_WIDTHS)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=VAE_WIDTHS,
        norm_num_groups=VAE_GROUPS,
        mid_block_add_attention=False,
    )


def make_unet() -> UNet2DConditionModel:
    """The denoiser of latents, with cross attention on every level."""
    levels = len(UNET_WIDTHS)
    return UNet2DConditionModel(
        sample_size=PIXELS // 8,
        in_channels=4,
        out_channels=4,
        block_out_channels=UNET_WIDTHS,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=UNET_HEADS,
    )


def make_text(rows: int) -> CLIPTextModel:
    """The text encoder, with `rows` rows of token embeddings."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=rows,
            hidden_size=TEXT_WIDTH,
            intermediate_size=TEXT_WIDTH * 4,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=TEXT_WIDTH // 64,
            max_position_embeddings=LENGTH,
            bos_token_id=rows - 2,
            eos_token_id=rows - 1,
            pad_token_id=rows - 1,
        )
    )


def parameters(*modules: nn.Module) -> int:
    """How many numbers the modules hold."""
    return sum(p.numel() for module in modules for p in module.parameters())


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes a state whole or not at all, so that a stopped run can go on from it."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load(path: Path) -> dict[str, Any]:
    """Reads what `save` wrote."""
    return torch.load(path, map_location="cpu", weights_only=True)


@torch.no_grad()
def in_parts(module: Any, x: Tensor, size: int = 64) -> Tensor:
    """A function of a batch, computed `size` rows at a time."""
    return torch.cat([module(part) for part in x.split(size)])


def encode(vae: AutoencoderKL, x: Tensor) -> Tensor:
    """Latents of pictures in -1..1, without the latent scale."""
    return in_parts(lambda part: vae.encode(part).latent_dist.mean, x)


def decode(vae: AutoencoderKL, z: Tensor) -> Tensor:
    """Pictures in -1..1 of latents without the latent scale."""
    return in_parts(lambda part: vae.decode(part).sample, z).clamp(-1, 1)


def psnr(y: Tensor, x: Tensor) -> float:
    """Peak signal-to-noise ratio of pictures in -1..1, in dB."""
    return float(10 * torch.log10(4 / (y - x).pow(2).mean()))


def to_images(x: Tensor) -> list[Image.Image]:
    """PIL images of pictures in -1..1."""
    bytes_ = ((x.detach().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(np.ascontiguousarray(b)) for b in bytes_]


def grid(images: Iterable[Image.Image], columns: int, up: int = 2, gap: int = 4) -> Image.Image:
    """Images side by side on white, enlarged `up` times."""
    shown = [image.resize((image.width * up, image.height * up), Image.Resampling.BICUBIC) for image in images]
    side = shown[0].width + gap
    out = Image.new("RGB", (columns * side, -(-len(shown) // columns) * side), "white")
    for place, image in enumerate(shown):
        out.paste(image, (place % columns * side, place // columns * side))
    return out
