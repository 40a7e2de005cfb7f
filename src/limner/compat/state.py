"""Tensors by name, as packs read them from files, as the weights that Limner's loaders take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from limner.compat.place import here
from limner.errors import UnfitInput
from limner.models.checkpoint import header_of
from limner.models.library import ModelLibrary
from limner.models.weights import Weights


def weights_of(
    tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None, name: str = "a pack's state dict"
) -> Weights:
    """Weights of these tensors; what is no tensor is left out. Raises UnfitInput where nothing is left."""
    found = {str(key): each for key, each in tensors.items() if isinstance(each, Tensor)}
    if not found:
        raise UnfitInput(f"{name} holds no tensors")
    header = header_of(Path(name), found, metadata)
    return Weights(header=header, names={key: key for key in found}, fetch=found.__getitem__)


def library() -> ModelLibrary:
    """The models of this process. Raises UnfitInput where there are none, as while packs are imported."""
    found = here().services.get(ModelLibrary)
    if not isinstance(found, ModelLibrary):
        raise UnfitInput("models can be loaded while a node runs, not while a pack is imported")
    return found
