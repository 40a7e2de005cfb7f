"""ModelComputeDtype: the precision that a network runs in."""

from __future__ import annotations

from typing import Annotated

import torch

from limner.graph.node import node
from limner.graph.types import Choices
from limner.nodes.sockets import Model

DTYPES = {"default": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@node("ModelComputeDtype", category="advanced/debug/model", module="comfy_extras.nodes_model_advanced")
def model_compute_dtype(*, model: Model, dtype: Annotated[str, Choices(*DTYPES)]) -> Model:
    """Sets the precision that a model computes in. fp16 is slow where no GPU is."""
    changed = model.clone()
    wanted = DTYPES[dtype]
    if wanted is None:
        changed.object_patches.pop("dtype", None)
        changed.dtype = model.model.dtype
    else:
        changed.add_object_patch("dtype", wanted)
        changed.dtype = wanted
    return changed
