"""ClipVision: what CLIP's vision network sees in pictures. Radford et al. 2021, arXiv:2103.00020; and SigLIP's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.errors import UnfitInput
from limner.models.build import build
from limner.models.checkpoint import Header
from limner.models.device import Devices
from limner.models.keys import KeyMap
from limner.models.patcher import Patcher
from limner.models.residency import use, within_memory
from limner.models.text.layouts import BLOCK, IN_BLOCK
from limner.models.weights import Weights

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)

HEADS = {768: 12, 1024: 16, 1152: 16, 1280: 16, 1664: 16}
"""Attention heads by width: ViT-B, L, SigLIP's, H and bigG. Others have heads of 64."""

FAST_GELU = 1024
"""Networks up to this width (OpenAI's) were trained with a rough GELU, wider ones (OpenCLIP's) with the exact one."""

AT_ONCE = 16
"""Pictures that go through the network together."""

OPEN_CLIP = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre.": "pre_layrnorm.",
    "ln_post.": "post_layernorm.",
}


@dataclass(slots=True, kw_only=True, eq=False)
class Seen:
    """What a CLIP_VISION_OUTPUT socket carries; float32 on the CPU. The names are those that node packs know.

    last_hidden_state, penultimate_hidden_states: (B, tokens, width). image_embeds: (B, projection).
    """

    last_hidden_state: Tensor
    image_embeds: Tensor
    penultimate_hidden_states: Tensor

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


class ClipVision(Patcher):
    """What a CLIP_VISION socket carries. image_size: edge in pixels of the pictures that the network takes."""

    def __init__(
        self,
        network: nn.Module,
        name: str,
        *,
        image_size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(network, KeyMap.same(network, ""), device, dtype)
        self.name = name
        self.image_size = image_size
        self.image_mean = mean
        self.image_std = std

    @property
    def model(self) -> nn.Module:
        """The network itself."""
        return self.module

    @property
    def patcher(self) -> ClipVision:
        """What holds the weights: this object itself."""
        return self

    def encode_image(self, image: Tensor, crop: bool = True) -> Seen:
        """What the network sees in pictures (B, H, W, 3 or more) in 0..1. Raises UnfitInput, OutOfMemory.

        crop: the middle square is taken; else pictures are pressed into a square.
        """
        pixels = prepared(image, self.image_size, self.image_mean, self.image_std, crop=crop)
        with torch.inference_mode(), use(self):
            parts = [
                within_memory(partial(self._see, part), what=f"{self.name} at {len(part)} pictures")
                for part in torch.split(pixels, AT_ONCE)
            ]
        return Seen(**{name: torch.cat([part[name] for part in parts]) for name in Seen.__slots__})

    def _see(self, pixels: Tensor) -> Seen:
        seen = self.module(pixels.to(self.load_device, self.dtype), output_hidden_states=True)
        pooled = seen["image_embeds"] if "image_embeds" in seen else seen.get("pooler_output")
        last: Tensor = seen["last_hidden_state"]
        return Seen(
            last_hidden_state=last.float().cpu(),
            image_embeds=(last if pooled is None else pooled).float().cpu(),
            penultimate_hidden_states=seen["hidden_states"][-2].float().cpu(),
        )


def prepared(image: Tensor, size: int, mean: tuple[float, ...], std: tuple[float, ...], *, crop: bool = True) -> Tensor:
    """Pictures (B, H, W, C) as networks take them: (B, 3, size, size), in 8-bit steps, without mean and spread."""
    if image.ndim != 4 or 0 in image.shape or image.shape[-1] < 3:
        raise UnfitInput(
            f"the pictures have the shape {tuple(image.shape)}; a vision model takes (batch, height, width, 3)"
        )
    pixels = image[..., :3].movedim(-1, 1).float()
    height, width = pixels.shape[-2:]
    if (height, width) != (size, size):
        scale = size / min(height, width)
        wanted = (round(scale * height), round(scale * width)) if crop else (size, size)
        pixels = F.interpolate(pixels, size=wanted, mode="bicubic", antialias=True)
        top, left = (pixels.shape[-2] - size) // 2, (pixels.shape[-1] - size) // 2
        pixels = pixels[..., top : top + size, left : left + size]
    pixels = (pixels * 255).clamp(0, 255).round() / 255
    return (pixels - torch.tensor(mean).reshape(3, 1, 1)) / torch.tensor(std).reshape(3, 1, 1)


def load_clip_vision(weights: Weights, devices: Devices) -> ClipVision:
    """The vision network of a file, or of a part of one, in the layout of transformers or of OpenCLIP.

    Raises ModelFileError where it is none, or not whole.
    """
    header = weights.header
    tensors = _in_transformers_layout(weights)
    config = vision_config(header, tensors)
    siglip = "embeddings.patch_embedding.bias" in tensors
    network = (_siglip if siglip else _clip)(header, tensors, config)
    parameters = sum(weight.numel() for weight in network.parameters())
    return ClipVision(
        network,
        header.path.name,
        image_size=config["image_size"],
        mean=HALF if siglip else CLIP_MEAN,
        std=HALF if siglip else CLIP_STD,
        device=devices.device,
        dtype=devices.text_dtype(parameters),
    )


def vision_config(header: Header, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What CLIPVisionConfig and SiglipVisionConfig take, from shapes."""
    patches = tensors["embeddings.patch_embedding.weight"]
    places = len(tensors["embeddings.position_embedding.weight"]) - ("embeddings.class_embedding" in tensors)
    width, patch = patches.shape[0], patches.shape[-1]
    layers = 0
    while f"encoder.layers.{layers}.layer_norm1.weight" in tensors:
        layers += 1
    first = tensors.get("encoder.layers.0.mlp.fc1.weight")
    edge = round(places**0.5)
    if first is None or edge * edge != places:
        raise header.fault(f"its vision model has {layers} layers and {places} places, none that is known here")
    return {
        "hidden_size": width,
        "intermediate_size": len(first),
        "num_hidden_layers": layers,
        "num_attention_heads": header.number("vision", "num_heads") or HEADS.get(width, max(1, width // 64)),
        "image_size": edge * patch,
        "patch_size": patch,
    }


def _clip(header: Header, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> nn.Module:
    from transformers.models.clip.configuration_clip import CLIPVisionConfig
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    projection = tensors.get("visual_projection.weight")
    if projection is None:
        raise header.fault("its vision model has no projection (visual_projection.weight)")
    told = CLIPVisionConfig(
        **config,
        projection_dim=len(projection),
        hidden_act="quick_gelu" if config["hidden_size"] <= FAST_GELU else "gelu",
    )
    named = {
        key if key.startswith("visual_projection.") else f"vision_model.{key}": each for key, each in tensors.items()
    }
    network: nn.Module = build(lambda: CLIPVisionModelWithProjection(told), named, header=header, part="vision model")
    return network


def _siglip(header: Header, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> nn.Module:
    from transformers.models.siglip.configuration_siglip import SiglipVisionConfig
    from transformers.models.siglip.modeling_siglip import SiglipVisionModel

    told = SiglipVisionConfig(**config, vision_use_head=any(key.startswith("head.") for key in tensors))
    network: nn.Module = build(lambda: SiglipVisionModel(told), tensors, header=header, part="vision model")
    return network


def _in_transformers_layout(weights: Weights) -> dict[str, Tensor]:
    """The vision network's tensors under transformers' keys, without `vision_model.`."""
    header = weights.header
    for prefix in ("visual.", "embedder.model.visual.", ""):
        if f"{prefix}transformer.resblocks.0.ln_1.weight" in header and f"{prefix}conv1.weight" in header:
            return _of_open_clip(weights.under(prefix) if prefix else weights)
    found: dict[str, Tensor] = {}
    for key in weights:
        name = key.removeprefix("clip_vision.")
        if name.startswith("visual_projection."):
            found[name] = weights.tensor(key)
        elif name.startswith("vision_model.") and not name.endswith("position_ids"):
            found[name.removeprefix("vision_model.")] = weights.tensor(key)
    if "embeddings.patch_embedding.weight" not in found or "embeddings.position_embedding.weight" not in found:
        shown = ", ".join(list(weights)[:3])
        raise header.fault(f"it holds no CLIP vision model that is known here; its tensors are {shown} ...")
    return found


def _of_open_clip(weights: Weights) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for key in weights:
        tensor, block = weights.tensor(key), BLOCK.fullmatch(key)
        if key == "proj":
            found["visual_projection.weight"] = tensor.T.contiguous()
        elif block is None:
            found[_renamed(key, OPEN_CLIP)] = tensor
        elif block[2].startswith("attn.in_proj_"):
            for name, part in zip("qkv", tensor.chunk(3), strict=True):
                end = block[2].removeprefix("attn.in_proj_")
                found[f"encoder.layers.{block[1]}.self_attn.{name}_proj.{end}"] = part
        else:
            found[f"encoder.layers.{block[1]}.{_renamed(block[2], IN_BLOCK)}"] = tensor
    return found


def _renamed(key: str, names: Mapping[str, str]) -> str:
    theirs = next((start for start in names if key.startswith(start)), "")
    return names.get(theirs, "") + key.removeprefix(theirs)
