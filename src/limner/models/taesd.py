"""TinyDecoder: what a half-done latent looks like, by a small network (TAESD, github.com/madebyollin/taesd)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from limner.diffusion.latents import LatentFormat
from limner.models.build import empty, fill
from limner.models.device import Devices
from limner.models.keys import KeyMap, Place
from limner.models.library import ModelLibrary
from limner.models.patcher import Patcher
from limner.models.residency import use
from limner.models.weights import open_weights

FOLDER = "vae_approx"
BLOCKS = (3, 3, 3, 1)
"""Residual blocks at each size, from the smallest."""


class TinyDecoder:
    """Latents in the network's units into pictures: fast, and near to what the VAE makes of them."""

    def __init__(self, network: nn.Module, keys: KeyMap, device: torch.device, dtype: torch.dtype) -> None:
        self.patcher = Patcher(network, keys, device, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """x: (B, C, h, w) to (B, h * 8, w * 8, 3) float32 in 0..1 on the CPU."""
        with torch.inference_mode(), use(self.patcher):
            picture: Tensor = self.patcher.module(x.to(self.patcher.load_device, self.patcher.dtype))
            return picture.float().add(1).div(2).clamp(0, 1).movedim(1, -1).cpu()


def tiny_decoder(library: ModelLibrary, latents: LatentFormat) -> TinyDecoder | None:
    """The decoder for previews of this space, `taesd_decoder.safetensors` among vae_approx for SD1.x for instance.

    None where there is no such file. Raises ModelFileError for one that does not fit.
    """
    name = decoder_file(library.folders.files(FOLDER), latents)
    if name is None:
        return None
    return library.kept(FOLDER, name, lambda path: load_decoder(path, latents, library.devices), variant="decoder")


def decoder_file(files: Mapping[str, Path], latents: LatentFormat) -> str | None:
    """The name of the decoder of this space among these files."""
    if not latents.tiny:
        return None
    return next((name for name in sorted(files) if Path(name).name.startswith(f"{latents.tiny}_decoder.")), None)


def load_decoder(path: Path, latents: LatentFormat, devices: Devices) -> TinyDecoder:
    """The decoder in a file. Raises ModelFileError where it is not whole, or of another space."""
    from diffusers.models.autoencoders.vae import DecoderTiny

    weights = open_weights(path)
    header = weights.header
    channels, width = header.size("1.weight", 1), header.size("1.weight")
    if channels != latents.channels:
        raise header.fault(f"it decodes latents of {channels} channels, {latents.channels} are right")
    network = empty(
        lambda: DecoderTiny(
            in_channels=channels,
            out_channels=3,
            num_blocks=BLOCKS,
            block_out_channels=(width,) * len(BLOCKS),
            upsampling_scaling_factor=2,
            act_fn="relu",
            upsample_fn="nearest",
        )
    )
    keys = KeyMap({_original(name): (Place(name),) for name in network.state_dict()})
    fill(network, keys, weights.tensors(), header=header, part="decoder for previews")
    return TinyDecoder(network, keys, devices.device, devices.vae_dtype())


def _original(name: str) -> str:
    """The name in the file: there a clamp, which has no weights, stands before the first layer."""
    _, number, *rest = name.split(".")
    return ".".join((str(int(number) + 1), *rest))
