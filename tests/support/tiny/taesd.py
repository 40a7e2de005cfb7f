"""The small VAEs of previews with random weights, in their own layout."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from safetensors.torch import save_file


def taesd(channels: int = 4) -> AutoencoderTiny:
    torch.manual_seed(0)
    return AutoencoderTiny(latent_channels=channels).eval().requires_grad_(False)


def save_taesd(folder: Path, name: str = "taesd", channels: int = 4) -> Path:
    """`NAME_encoder.safetensors` and `NAME_decoder.safetensors` in a folder; the latter's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for side, shift in (("encoder", 0), ("decoder", 1)):  # the decoder begins with a clamp
        weights = {}
        for key, weight in taesd(channels).state_dict().items():
            part, _, number, *rest = key.split(".")
            if part == side:
                weights[".".join((str(int(number) + shift), *rest))] = weight
        save_file(weights, folder / f"{name}_{side}.safetensors")
    return folder / f"{name}_decoder.safetensors"
