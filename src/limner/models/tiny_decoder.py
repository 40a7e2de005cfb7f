"""The way out of a small VAE alone, which turns half-done latents into previews: TAESD, by Ollin Boer Bohan."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from limner.diffusion.latents import LatentFormat
from limner.errors import UnfitInput
from limner.models.build import empty, fill
from limner.models.device import Devices
from limner.models.keys import KeyMap, Place
from limner.models.library import ModelLibrary
from limner.models.patcher import Patcher
from limner.models.residency import use
from limner.models.weights import open_weights

FOLDER = "vae_approx"


class TinyDecoder(Patcher):
    """Pictures of latents in the network's units."""

    def pictures(self, x: Tensor) -> Tensor:
        """x: (B, C, h, w). Gives (B, 8h, 8w, 3) uint8 on the CPU."""
        with torch.inference_mode(), use(self):
            decoded: Tensor = self.module(x.to(self.load_device, self.dtype))
        return decoded.float().add(1).mul(127.5).clamp(0, 255).to(torch.uint8).movedim(1, -1).cpu()


def tiny_decoder(library: ModelLibrary, latents: LatentFormat) -> TinyDecoder | None:
    """The decoder for this space from the folder `vae_approx`; None where its file is not there.

    Raises ModelFileError for a file that cannot be used, UnfitInput for one of another space.
    """
    if not latents.tiny:
        return None
    wanted = f"{latents.tiny}_decoder"
    name = next((name for name, path in sorted(library.folders.files(FOLDER).items()) if path.stem == wanted), None)
    if name is None:
        return None
    return library.kept(FOLDER, name, lambda path: _load(path, latents, library.devices), variant=latents.channels)


def _load(path: Path, latents: LatentFormat, devices: Devices) -> TinyDecoder:
    from diffusers.models.autoencoders.vae import DecoderTiny

    file = open_weights(path)
    channels = file.header.size("1.weight", 1)
    if channels != latents.channels:
        raise UnfitInput(f"{path.name} decodes latents of {channels} channels, the model has {latents.channels}")
    network = empty(
        lambda: DecoderTiny(
            in_channels=channels,
            out_channels=3,
            num_blocks=(3, 3, 3, 1),
            block_out_channels=(64, 64, 64, 64),
            upsampling_scaling_factor=2,
            act_fn="relu",
            upsample_fn="nearest",
        )
    )
    keys = KeyMap({_original(name): (Place(name),) for name in network.state_dict()})
    fill(network, keys, file.tensors(), header=file.header, part="decoder")
    return TinyDecoder(network, keys, devices.device, devices.vae_dtype())


def _original(name: str) -> str:
    """The file's name of a parameter: the layers are counted from 1 there, after a clamp."""
    _, number, *rest = name.split(".")
    return ".".join((str(int(number) + 1), *rest))
