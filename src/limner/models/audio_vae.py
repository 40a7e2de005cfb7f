"""The VAE of Stable Audio (Oobleck), from its original layout. Evans et al. 2024, arXiv:2407.14358."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from limner.diffusion import formats
from limner.models.build import empty, fill
from limner.models.checkpoint import Header
from limner.models.device import Devices
from limner.models.keys import KeyMap, Place
from limner.models.vae import SpreadCodec, Vae
from limner.models.weights import Weights

SAMPLE_RATE = 44100

NORM = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
"""Weights are kept as length and direction; how torch's newer weight norm calls the two, and how its older did."""


def load_oobleck(weights: Weights, devices: Devices) -> Vae:
    """The VAE in these weights (`encoder.layers.0.weight_v` ...). Raises ModelFileError where it does not fit."""
    from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck

    header = weights.header
    config = oobleck_config(header)
    with warnings.catch_warnings():  # it uses a weight norm that torch calls old
        warnings.simplefilter("ignore", FutureWarning)
        network = empty(lambda: AutoencoderOobleck(**config))
    blocks = len(config["downsampling_ratios"])
    keys = KeyMap({
        original_name(name, blocks): (Place(name),) for name in network.state_dict()
    })  # fmt: skip
    shapes = {
        key: (shape[1],)
        for key, places in keys.places.items()
        if key.endswith((".alpha", ".beta"))
        and len(shape := tuple(network.get_parameter(places[0].parameter).shape)) == 3
    }
    keys = KeyMap(keys.places, shapes=shapes)
    tensors = {key: each for key, each in weights.tensors().items() if key.startswith(("encoder.", "decoder."))}
    fill(network, keys, tensors, header=header, part="audio VAE")
    return Vae(
        name=header.path.name,
        network=network,
        keys=keys,
        codec=SpreadCodec(),
        latents=replace(
            formats.STABLE_AUDIO,
            channels=config["decoder_input_channels"],
            stride=prod(config["downsampling_ratios"]),
        ),
        device=devices.device,
        dtype=devices.vae_dtype(),
        channels=config["audio_channels"],
        sample_rate=config["sampling_rate"],
        told=header.told(),
    )


def oobleck_config(header: Header) -> dict[str, Any]:
    """Arguments of AutoencoderOobleck, from the shapes of its weights in the original layout.

    A block of the encoder halves the rate by half the width of its last convolution.
    """
    blocks = 0
    while f"encoder.layers.{blocks + 1}.layers.4.weight_v" in header:
        blocks += 1
    if not blocks:
        raise header.fault(
            "its audio VAE is not complete or not of this family: it lacks encoder.layers.1.layers.4.weight_v"
        )
    width = header.size("encoder.layers.0.weight_v")
    ratios = [header.size(f"encoder.layers.{block + 1}.layers.4.weight_v", 2) // 2 for block in range(blocks)]
    widths = [header.size(f"encoder.layers.{block + 1}.layers.4.weight_v") for block in range(blocks)]
    first = header.size(f"decoder.layers.{blocks}.layers.1.weight_v", 1)
    return {
        "encoder_hidden_size": width,
        "downsampling_ratios": ratios,
        "channel_multiples": [each // width for each in widths],
        "decoder_channels": first,
        "decoder_input_channels": header.size("decoder.layers.0.weight_v", 1),
        "audio_channels": header.size("encoder.layers.0.weight_v", 1),
        "sampling_rate": header.number("vae", "sample_rate") or SAMPLE_RATE,
    }


def original_name(name: str, blocks: int) -> str:
    """The name in the original layout for a parameter of AutoencoderOobleck."""
    side, _, rest = name.partition(".")
    for ours, theirs in NORM.items():
        rest = rest.replace(ours, theirs)
    parts = rest.split(".")
    if parts[0] == "block":
        inner = (ENCODER_BLOCK if side == "encoder" else DECODER_BLOCK)[parts[2]]
        if parts[2].startswith("res_unit"):
            return f"{side}.layers.{int(parts[1]) + 1}.layers.{inner}.layers.{UNIT[parts[3]]}.{parts[4]}"
        return f"{side}.layers.{int(parts[1]) + 1}.layers.{inner}.{parts[3]}"
    place = {"conv1": 0, "snake1": blocks + 1, "conv2": blocks + 2}[parts[0]]
    return f"{side}.layers.{place}.{parts[1]}"


UNIT: Mapping[str, int] = {"snake1": 0, "conv1": 1, "snake2": 2, "conv2": 3}
ENCODER_BLOCK: Mapping[str, int] = {"res_unit1": 0, "res_unit2": 1, "res_unit3": 2, "snake1": 3, "conv1": 4}
DECODER_BLOCK: Mapping[str, int] = {"snake1": 0, "conv_t1": 1, "res_unit1": 2, "res_unit2": 3, "res_unit3": 4}
"""Which number each part has in its sequence."""
