"""The small VAEs for previews (TAESD, github.com/madebyollin/taesd): a file for the way in, one for the way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import Tensor, nn

from limner.diffusion import formats
from limner.diffusion.latents import LatentFormat
from limner.models.build import empty, fill
from limner.models.checkpoint import Header
from limner.models.device import Devices
from limner.models.keys import KeyMap, Place
from limner.models.vae import Codec, Vae
from limner.models.weights import Weights, joined

SPACES = {each.tiny: each for each in (formats.SD15, formats.SDXL, formats.SD3, formats.FLUX)}
"""The latent space of each, by the beginning of its files' names."""


@dataclass(frozen=True, slots=True)
class TinyCodec(Codec):
    """diffusers' AutoencoderTiny, whose latents are those of the network that denoises."""

    latents: LatentFormat

    def encode(self, network: nn.Module, x: Tensor) -> Tensor:
        encode = cast(Callable[..., tuple[Tensor]], network.encode)
        return self.latents.out_of_network(encode(x, return_dict=False)[0])

    def decode(self, network: nn.Module, samples: Tensor) -> Tensor:
        decode = cast(Callable[..., tuple[Tensor]], network.decode)
        return decode(self.latents.into_network(samples), return_dict=False)[0].clamp(-1, 1)


def load_tiny(encoder: Weights, decoder: Weights, latents: LatentFormat, devices: Devices) -> Vae:
    """The VAE of two files, `taesd_encoder.safetensors` and `taesd_decoder.safetensors` for instance.

    Raises ModelFileError where one is not complete or of another space.
    """
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    header = decoder.header
    config = _config(encoder.header, header)
    if config["latent_channels"] != latents.channels:
        raise header.fault(f"its latents have {config['latent_channels']} channels, {latents.channels} are right")
    network = empty(lambda: AutoencoderTiny(**config))
    both = joined({"encoder.": encoder, "decoder.": decoder}, header)
    keys = KeyMap({_original(name): (Place(name),) for name in network.state_dict()})
    fill(network, keys, both.tensors(), header=header, part="small VAE")
    return Vae(
        name=latents.tiny,
        network=network,
        keys=keys,
        codec=TinyCodec(latents),
        latents=replace(latents, stride=8),
        device=devices.device,
        dtype=devices.vae_dtype(),
    )


def _config(encoder: Header, decoder: Header) -> dict[str, Any]:
    """Arguments of AutoencoderTiny: three changes of size, the latents' channels from the first way out."""
    return {"latent_channels": decoder.size("1.weight", 1), "in_channels": encoder.size("0.weight", 1)}


def _original(name: str) -> str:
    """The name in the original layout for a parameter of AutoencoderTiny: the way out begins with a clamp there."""
    side, _, number, *rest = name.split(".")
    place = int(number) + (side == "decoder")
    return ".".join((side, str(place), *rest))
