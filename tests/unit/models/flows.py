"""What the tests of transformer families share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from limner.models.device import Devices
from limner.models.files import ModelFolders
from limner.models.flow.tables import PREFIX
from limner.models.keys import KeyMap
from limner.models.library import ModelLibrary
from limner.models.model import Model
from limner.models.weights import Weights, open_weights
from tests.support.tiny import checkpoints

CPU = Devices(device=torch.device("cpu"), half=None)


def diffusion_model(folder: Path, name: str = "a.safetensors", weight_dtype: str = "default") -> Model:
    return ModelLibrary(ModelFolders([folder]), CPU).diffusion_model(name, weight_dtype)


def header_only(keys: KeyMap, weights: Mapping[str, Tensor], folder: Path) -> Weights:
    """A checkpoint of a network with these weights, which may have no memory, as its header tells of it."""
    shapes = {
        f"model.diffusion_model.{key.removeprefix(PREFIX)}": tuple(keys.gather_from(weights.__getitem__, key).shape)
        for key in keys
    }
    header = open_weights(checkpoints.save(folder / "x.safetensors", {"x": torch.zeros(1)})).header
    header = replace(header, shapes=shapes, dtypes=dict.fromkeys(shapes, "BF16"), places={})
    unread: dict[str, Tensor] = {}
    return Weights(header=header, names={key: key for key in shapes}, fetch=unread.__getitem__)
