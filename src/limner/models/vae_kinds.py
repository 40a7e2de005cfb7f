"""VAEs from weights: which kind a file holds, and how each kind is loaded and called."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from limner.diffusion import formats
from limner.diffusion.latents import LatentFormat
from limner.models import vae_layout
from limner.models.build import empty, fill
from limner.models.device import Devices
from limner.models.keys import KeyMap
from limner.models.vae import Codec, SpreadCodec, Vae
from limner.models.weights import Weights

PIXEL_SPACE = "pixel_space"
"""The name of the VAE that changes nothing: its latents are pixels."""


def load_vae(weights: Weights, devices: Devices, latents: LatentFormat | None = None) -> Vae:
    """The VAE of a file, or of a part of one, told from its keys. Raises ModelFileError where it is none that is known.

    latents: the space of the model beside it, where that is known.
    """
    header = weights.header
    for prefix in BARE:
        if header.has(prefix) and any(prefix + key in weights for key in MARKS):
            weights = weights.under(prefix)
            header = weights.header
    if header.has("encoder.down_blocks.") or header.has("decoder.up_blocks."):
        weights = weights.renamed(vae_layout.of_diffusers(header))
        header = weights.header
    if "decoder.conv_in.weight" in weights and len(header.shape("decoder.conv_in.weight") or ()) == 4:
        return _pictures(weights, devices, latents)
    if header.has("decoder.layers.") and header.has("encoder.layers."):
        from limner.models.audio_vae import load_oobleck

        return load_oobleck(weights, devices)
    raise header.fault(f"it holds no VAE that this version knows; {_looks_like(weights)}")


def pixel_space() -> Vae:
    """The VAE that changes nothing but the range."""
    return Vae(
        name=PIXEL_SPACE,
        network=nn.Identity(),
        keys=KeyMap({}),
        codec=_Nothing(),
        latents=formats.PIXELS,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


class _Nothing(Codec):
    def encode(self, network: nn.Module, x: Tensor) -> Tensor:
        return cast(Tensor, network(x))

    def decode(self, network: nn.Module, samples: Tensor) -> Tensor:
        return cast(Tensor, network(samples))


def _pictures(weights: Weights, devices: Devices, latents: LatentFormat | None) -> Vae:
    """The VAE of Rombach et al. 2022, arXiv:2112.10752, in any size."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    header = weights.header
    config = vae_layout.vae_config(header)
    network = empty(lambda: AutoencoderKL(**config))
    shapes = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    levels = len(config["block_out_channels"])
    keys = vae_layout.key_map(shapes, levels)
    tensors = {key: tensor for key, tensor in weights.tensors().items() if key.startswith(PARTS)}
    fill(network, keys, tensors, header=header, part="VAE")
    known = latents or BY_CHANNELS.get(config["latent_channels"], formats.SD15)
    return Vae(
        name=header.path.name,
        network=network,
        keys=keys,
        codec=SpreadCodec(),
        latents=replace(known, channels=config["latent_channels"], stride=2 ** (levels - 1)),
        device=devices.device,
        dtype=devices.vae_dtype(),
        channels=config["in_channels"],
        told=header.told(),
    )


def _looks_like(weights: Weights) -> str:
    for mark, what in LOOKS_LIKE:
        if any(mark in key for key in weights):
            return f"it looks like {what}"
    return "nothing in it looks like one"


PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
"""Keys of a VAE begin so; training leaves others beside them (loss., model_ema.)."""

BARE = ("first_stage_model.", "vae.", "pretransform.model.", "autoencoder.")
"""Prefixes that VAEs in files of their own may have kept."""

MARKS = ("decoder.conv_in.weight", "decoder.layers.0.weight_v", "decoder.conv_in.bias", "decoder.layers.0.bias")

BY_CHANNELS = {4: formats.SD15, 16: formats.FLUX}

LOOKS_LIKE = (
    ("decoder.middle.0.residual.", "the VAE of a video model"),
    ("decoder.conv_in.conv.weight", "the VAE of a video model"),
    ("model.diffusion_model.", "a whole checkpoint; load it with CheckpointLoaderSimple"),
    ("taesd", "a small VAE for previews"),
    ("text_model.", "a text encoder"),
    ("lora", "a LoRA"),
)
"""Parts of keys, and what a file with such a key is; the first that fits counts."""
