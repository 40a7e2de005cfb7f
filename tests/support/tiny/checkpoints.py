"""Small checkpoints with random weights of each family, in files as the real ones come, and the parts of such.

`save_*` write a file. `networks` of the same size give what is in it, to compare with.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck
from torch import Tensor

from limner.models.audio_vae import original_name
from tests.support.tiny import layout
from tests.support.tiny.layout import Size
from tests.support.tiny.text_encoders import clip, clip_weights
from tests.support.tiny.vision import clip_vision, open_clip

WAVES = 256
"""Values in which SDXL is told each number about sizes."""

SD15 = Size(widths=(64, 128), layers=1, vae_widths=(32, 32, 32, 32), vae_attention=False)
SD2 = replace(SD15, heads=0, linear=True)
UNCLIP = replace(SD2, vector=2 * 64)
SDXL = replace(SD2, widths=(64, 64, 64), attention=(False, True, True), text_width=128, vector=64 + 6 * WAVES, depth=2)
REFINER = replace(
    SD2, widths=(64, 64, 64, 64), attention=(False, True, True, False), text_width=64, vector=64 + 5 * WAVES, depth=2
)
FLUX_VAE = replace(SD15, latent_channels=16, quant_conv=False)

TEXTS = {
    "sd15": (("clip_l", "transformers", "cond_stage_model.transformer."),),
    "sd2": (("clip_h", "open_clip", "cond_stage_model.model."),),
    "sdxl": (
        ("clip_l", "transformers", "conditioner.embedders.0.transformer."),
        ("clip_g", "open_clip", "conditioner.embedders.1.model."),
    ),
    "refiner": (("clip_g", "open_clip", "conditioner.embedders.0.model."),),
}
"""The text encoders of each family: network, layout and prefix of its keys."""


def save_sd15(path: Path, **metadata: Any) -> Path:
    return save(path, parts(SD15, "sd15"), **metadata)


def save_sd15_inpaint(path: Path) -> Path:
    return save(path, parts(replace(SD15, inputs=9), "sd15"))


def save_sd15_editing(path: Path) -> Path:
    """InstructPix2Pix's layout: 8 channels."""
    return save(path, parts(replace(SD15, inputs=8), "sd15"))


def save_sd2_v(path: Path) -> Path:
    """It does not say what it predicts: v."""
    return save(path, parts(SD2, "sd2"))


def save_sd2_unclip(path: Path) -> Path:
    weights = parts(UNCLIP, "sd2")
    weights["noise_augmentor.data_mean"] = torch.linspace(-0.1, 0.1, 64)[None]
    weights["noise_augmentor.data_std"] = torch.linspace(0.5, 1.5, 64)[None]
    weights |= open_clip(clip_vision().state_dict(), "embedder.model.visual.")
    return save(path, weights)


def save_sdxl(path: Path) -> Path:
    return save(path, parts(SDXL, "sdxl"))


def save_sdxl_inpaint(path: Path) -> Path:
    return save(path, parts(replace(SDXL, inputs=9), "sdxl"))


def save_sdxl_refiner(path: Path) -> Path:
    return save(path, parts(REFINER, "refiner"))


def save_unet(path: Path, size: Size = SD15, *, prefix: str = "", diffusers: bool = False) -> Path:
    """A denoiser in a file of its own, in the original layout or in that of diffusers."""
    weights = dict(layout.networks(size).unet.state_dict())
    if diffusers:
        return save(path, {key.replace("class_embedding.", "add_embedding."): each for key, each in weights.items()})
    return save(path, {f"{prefix}{key}": each for key, each in layout.unet_keys(size, weights)})


def save_vae(path: Path, size: Size = SD15, *, prefix: str = "", diffusers: bool = False) -> Path:
    """A VAE in a file of its own, in the original layout or in that of diffusers."""
    weights = dict(layout.networks(size).vae.state_dict())
    named = weights.items() if diffusers else layout.vae_keys(size, weights)
    return save(path, {f"{prefix}{key}": each for key, each in named})


def save_flux_vae(path: Path) -> Path:
    return save_vae(path, FLUX_VAE)


def audio_vae() -> AutoencoderOobleck:
    torch.manual_seed(0)
    with warnings.catch_warnings():  # it uses a weight norm that torch calls old
        warnings.simplefilter("ignore", FutureWarning)
        made = AutoencoderOobleck(
            encoder_hidden_size=16,
            downsampling_ratios=[2, 4],
            channel_multiples=[1, 2],
            decoder_channels=16,
            decoder_input_channels=8,
            audio_channels=2,
        )
    return made.eval()


def save_audio_vae(path: Path, *, prefix: str = "") -> Path:
    """The VAE of Stable Audio in its original layout."""
    weights = audio_vae().state_dict()
    flat = {key: each.flatten() if key.endswith((".alpha", ".beta")) else each for key, each in weights.items()}
    return save(path, {f"{prefix}{original_name(key, 2)}": each for key, each in flat.items()})


def parts(size: Size, text: str) -> dict[str, Tensor]:
    """The weights of a checkpoint: a UNet, a VAE, and the text encoders of a family."""
    made = layout.networks(size)
    weights = {f"model.diffusion_model.{key}": each for key, each in layout.unet_keys(size, made.unet.state_dict())}
    weights |= {f"first_stage_model.{key}": each for key, each in layout.vae_keys(size, made.vae.state_dict())}
    for name, kind, prefix in TEXTS[text]:
        weights |= clip_weights(clip(name), kind, prefix)
    return weights


def save(path: Path, weights: Mapping[str, Tensor], config: dict[str, Any] | None = None, **metadata: str) -> Path:
    """A file of these weights in half precision, without what transformers counts and files of today do not hold."""
    kept = {key: each for key, each in weights.items() if not key.endswith("position_ids")}
    return layout.save(path, {key: _half(each) for key, each in kept.items()}, config=config, **metadata)


def _half(weight: Tensor) -> Tensor:
    return weight.half() if weight.dtype == torch.float32 else weight
