"""Modules from weights: built without memory of their own, then given the file's tensors."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from limner.models.checkpoint import Header

M = TypeVar("M", bound=nn.Module)

LIBRARIES = (
    "diffusers.loaders.single_file_utils",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "transformers.models.clip.modeling_clip",
)
"""What building a checkpoint's networks imports."""


def preload() -> None:
    """Imports the libraries that loading a checkpoint needs. They take seconds: a host can do it while it waits."""
    for library in LIBRARIES:
        importlib.import_module(library)


def read_weights(header: Header) -> dict[str, Tensor]:
    """Every tensor of the file, mapped from the disk: pages are read once they are used."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights: dict[str, Tensor] = load_file(header.path)
    except (SafetensorError, OSError) as error:
        raise header.fault(f"its tensors cannot be read ({error})") from error
    return weights


def build(
    make: Callable[[], M],
    weights: Mapping[str, Tensor],
    *,
    header: Header,
    part: str,
    device: torch.device,
    dtype: torch.dtype,
) -> M:
    """The module that `make` constructs, with these weights in this precision, ready to run and never trained.

    Raises ModelFileError where weights are missing, superfluous, or of another shape than the module's.
    """
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        module = make()
    placed = {key: weight.to(device, dtype) for key, weight in weights.items()}
    try:
        module.load_state_dict(placed, strict=True, assign=True)
    except RuntimeError as error:
        faults = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise header.fault(f"its {part} is not complete or not of this family: {' '.join(faults)[:500]}") from error
    return module.to(device).eval().requires_grad_(False)
