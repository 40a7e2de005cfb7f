"""load_controlnet(): a control network from a file, in whichever of the known layouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.models.build import empty, fill
from limner.models.checkpoint import Header
from limner.models.controlnet import layout
from limner.models.controlnet.adapter import is_adapter, load_adapter
from limner.models.controlnet.chain import Control
from limner.models.controlnet.lora import MARK, ControlLora
from limner.models.controlnet.net import ControlNet
from limner.models.device import Devices
from limner.models.model import Model
from limner.models.patcher import Patcher
from limner.models.weights import Weights, open_weights

PREFIX = "control_model."
DIFFERENCE = "difference"
"""A file with a tensor of this name tells what a network adds to the weights of a model."""

OTHERS = (
    ("controlnet_x_embedder.", "a ControlNet for Flux"),
    ("controlnet_blocks.", "a ControlNet for Stable Diffusion 3, Flux or another transformer model"),
    ("lllite_", "a ControlNet-LLLite, which takes a node pack of its own"),
    ("lora_unet_", "a LoRA"),
    ("model.diffusion_model.", "a checkpoint"),
    ("ip_adapter.", "an IP-Adapter, which takes a node pack of its own"),
)
"""Parts of keys, and what a file with such a key is."""


def load_controlnet(path: Path, devices: Devices, model: Model | None = None) -> Control:
    """A ControlNet, Control-LoRA or T2I-Adapter, ready to be given a picture. Raises ModelFileError, UnfitInput.

    model: whose weights a file of differences adds to; others do not look at it.
    """
    weights = open_weights(path)
    difference = DIFFERENCE in weights
    if difference and model is None:
        raise weights.header.fault(
            "it tells only how a ControlNet differs from a model; load it by DiffControlNetLoader, with the model"
        )
    if is_adapter(weights.header):
        return load_adapter(weights, devices)
    if MARK in weights:
        return ControlLora(weights, devices.device)
    original = _original(weights)
    tensors = original.tensors()
    if difference and model is not None:
        tensors = _added(tensors, model, original.header)
    return _built(original.header, tensors, devices)


def _original(weights: Weights) -> Weights:
    """The weights under the names of the original layout, without a prefix."""
    header = weights.header
    if header.has(PREFIX):
        return weights.under(PREFIX)
    if f"{layout.HINT}0.weight" in header:
        return weights
    if "controlnet_cond_embedding.conv_in.weight" in header:
        return weights.renamed(layout.from_diffusers(header))
    looks = next((what for part, what in OTHERS if any(part in key for key in header.shapes)), None)
    guess = f"it looks like {looks}" if looks else "its architecture is unknown"
    raise header.fault(f"{guess}; ControlNets and T2I-Adapters for Stable Diffusion 1.x, 2.x and XL can be used")


def _added(tensors: dict[str, Tensor], model: Model, header: Header) -> dict[str, Tensor]:
    """The weights that a file of differences means: those it shares with the model are told less the model's."""
    whole = {}
    for key, tensor in tensors.items():
        if key == DIFFERENCE:
            continue
        name = f"diffusion_model.{key}"
        if name not in model.keys:
            whole[key] = tensor
            continue
        base = model.weight(name)
        if base.shape != tensor.shape:
            raise UnfitInput(
                f"{header.path.name} does not fit {model.name}: {key} has the shape {tuple(tensor.shape)} there, and "
                f"{tuple(base.shape)} in the model"
            )
        whole[key] = (tensor.float() + base.to(tensor.device, torch.float32)).to(tensor.dtype)
    return whole


def _built(header: Header, tensors: dict[str, Tensor], devices: Devices) -> ControlNet:
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel

    header = replace(header, shapes={key: tuple(tensor.shape) for key, tensor in tensors.items()})
    made_of = layout.config(header)
    union = "task_embedding" in header
    network: torch.nn.Module
    if union:
        told = {key: value for key, value in made_of.items() if key != "mid_block_type"}
        network = empty(lambda: ControlNetUnionModel(**told, **layout.union_config(header)))
    else:
        network = empty(lambda: ControlNetModel(**made_of))
    keys = layout.key_map(network.state_dict(), made_of)
    fill(network, keys, tensors, header=header, part="ControlNet", prefix=PREFIX)
    dtype = devices.network_dtype(sum(tensor.numel() for tensor in tensors.values()))
    name = header.path.name
    control = ControlNet(
        Patcher(network, keys, devices.device, dtype),
        name,
        context_width=made_of.get("cross_attention_dim", 0),
        adm_channels=made_of.get("projection_class_embeddings_input_dim", 0),
        hint_channels=made_of["conditioning_channels"],
        kinds=header.size("task_embedding") if union else 0,
    )
    # the published networks that look at a picture as a whole say so by their names alone
    control.global_average_pooling = header.path.stem.endswith(("_shuffle", "_shuffle_fp16"))
    return control
