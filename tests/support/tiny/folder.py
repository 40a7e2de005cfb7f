"""A model folder of small models with random weights, under the names that the example workflows use."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.support.tiny import checkpoints, controlnet, flux, lora, sd3, text_encoders, upscale, z_image

SUFFIX = ".safetensors"


def save_all(folder: Path) -> None:
    """Writes them into `checkpoints/`, `loras/` ... of this folder: random weights, some 10 MB each."""
    kinds = folder / "checkpoints"
    checkpoints.save_sd15(kinds / f"tiny_sd15{SUFFIX}")
    _other(kinds / f"tiny_sd15{SUFFIX}", kinds / f"tiny_sd15_b{SUFFIX}")
    checkpoints.save_sd15_inpaint(kinds / f"tiny_sd15_inpaint{SUFFIX}")
    checkpoints.save_sd2_v(kinds / f"tiny_sd2_v{SUFFIX}")
    checkpoints.save_sd2_unclip(kinds / f"tiny_sd2_unclip{SUFFIX}")
    checkpoints.save_sdxl(kinds / f"tiny_sdxl{SUFFIX}")
    checkpoints.save_sdxl_refiner(kinds / f"tiny_sdxl_refiner{SUFFIX}")
    lora.save_lora(folder / f"loras/tiny_sd15_lora{SUFFIX}")
    controlnet.save_controlnet(folder / f"controlnet/tiny_sd15_control{SUFFIX}")
    controlnet.save_controlnet(folder / f"controlnet/tiny_sdxl_control{SUFFIX}", controlnet.SDXL)
    upscale.save_upscale_model(folder / f"upscale_models/tiny_esrgan{SUFFIX}")
    text_encoders.save_clip(folder / f"text_encoders/tiny_clip_l{SUFFIX}", "clip_l")
    text_encoders.save_clip(folder / f"text_encoders/tiny_clip_g{SUFFIX}", "clip_g", layout="open_clip")
    text_encoders.save_t5(folder / f"text_encoders/tiny_t5{SUFFIX}", width=128)
    flux.save_flux(folder / f"diffusion_models/tiny_flux{SUFFIX}")
    sd3.save_sd3(folder / f"diffusion_models/tiny_sd3{SUFFIX}", sd3.MEDIUM)
    z_image.save_z_image(folder / f"diffusion_models/tiny_z_image{SUFFIX}")
    text_encoders.save_qwen(folder / f"text_encoders/tiny_qwen3{SUFFIX}")
    checkpoints.save_flux_vae(folder / f"vae/tiny_flux_vae{SUFFIX}")
    embedding = folder / f"embeddings/tiny_embedding{SUFFIX}"
    embedding.parent.mkdir(parents=True, exist_ok=True)
    save_file({"emb_params": torch.randn(2, 64, generator=torch.Generator().manual_seed(1)) * 0.02}, embedding)


def _other(path: Path, copy: Path) -> None:
    """A second model of the same shape: the first, a little shaken."""
    draw = torch.Generator().manual_seed(2)
    weights = {
        key: weight
        + 0.05 * weight.float().std().nan_to_num() * torch.randn(weight.shape, generator=draw).to(weight.dtype)
        if weight.is_floating_point()
        else weight
        for key, weight in load_file(path).items()
    }
    save_file(weights, copy)
