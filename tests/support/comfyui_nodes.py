"""What a real ComfyUI was recorded to offer: its own nodes, and those of the pack that it was recorded with."""

from __future__ import annotations

import copy
import gzip
import json
from functools import cache
from typing import Any

from limner.graph.catalogue import Catalogue
from limner.graph.object_info import catalogue_of
from tests.support import toys
from tests.support.recordings import DATA

FOLDERS = (
    "checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models", "clip_vision", "style_models",
    "embeddings", "diffusers", "vae_approx", "controlnet", "gligen", "upscale_models", "custom_nodes",
    "hypernetworks", "photomaker", "classifiers", "model_patches", "audio_encoders",
)  # fmt: skip
"""What GET /models was recorded to answer."""

MODELS: dict[str, list[str]] = {folder: [] for folder in FOLDERS} | {"checkpoints": ["anchor_sd15.safetensors"]}


def core() -> dict[str, Any]:
    """The answer of /object_info by ComfyUI 0.3.64 with no packs and no files; texts for people are left out of it."""
    return copy.deepcopy(_core())


def pack(module: str = "custom_nodes.anchor_pack") -> dict[str, Any]:
    """The pack's part of /object_info. `module`: where its classes say to come from."""
    shown = json.loads(json.dumps(toys.catalogue().object_info()))
    return {
        name: {**entry, "python_module": module}
        for name, entry in shown.items()
        if entry["python_module"] == "custom_nodes.anchor_pack"
    }


def object_info() -> dict[str, Any]:
    return {**core(), **pack()}


def catalogue() -> Catalogue:
    return catalogue_of(with_checkpoints(object_info(), MODELS["checkpoints"]), MODELS)


def with_checkpoints(shown: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The same answer by a server that has these checkpoints."""
    for entry in shown.values():
        for section in entry["input"].values():
            if "ckpt_name" in section:
                section["ckpt_name"][0] = list(names)
    return shown


@cache
def _core() -> dict[str, Any]:
    packed = (DATA / "comfyui_object_info.json.gz").read_bytes()
    found: dict[str, Any] = json.loads(gzip.decompress(packed))
    return found
