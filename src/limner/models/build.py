"""Modules from weights: built without memory of their own, then given the file's tensors."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from limner.models.checkpoint import Header
from limner.models.keys import KeyMap, Place

M = TypeVar("M", bound=nn.Module)

LIBRARIES = (
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "transformers.models.clip.modeling_clip",
)
"""What building a checkpoint's networks imports."""

NAMED = 4
"""How many keys an error names."""


def preload() -> None:
    """Imports the libraries that loading a checkpoint needs. They take seconds: a host can do it while it waits."""
    for library in LIBRARIES:
        importlib.import_module(library)


def empty(make: Callable[[], M]) -> M:
    """The module that `make` constructs, without memory for its weights. None is drawn: that takes longest."""
    from accelerate import init_empty_weights
    from transformers.initialization import no_init_weights

    with torch.inference_mode(False), init_empty_weights(include_buffers=False), no_init_weights():
        return make()


def fill(module: M, keys: KeyMap, tensors: Mapping[str, Tensor], *, header: Header, part: str, prefix: str = "") -> M:
    """The module with these tensors as its weights, as they are: nothing is cast, and only parameters that are made of
    several originals, or of one with its rows in another order, are copied. It never trains.

    tensors: by original key without `prefix`, which those of `keys` have. Raises ModelFileError where weights are
    missing, superfluous, or of another shape than the module's.
    """
    wanted = {key.removeprefix(prefix): key for key in keys}
    missing, superfluous = [key for key in wanted if key not in tensors], [key for key in tensors if key not in wanted]
    if missing or superfluous:
        faults = [f"it lacks {_some(missing)}"] * bool(missing) + [f"it has {_some(superfluous)}"] * bool(superfluous)
        raise header.fault(f"its {part} is not complete or not of this family: {', and '.join(faults)}")
    own = {name: tuple(weight.shape) for name, weight in module.state_dict().items()}
    placed: dict[str, Tensor] = {}
    parts: dict[str, dict[int, Tensor]] = {}
    for name, key in wanted.items():
        places, shape = keys.places[key], tuple(tensors[name].shape)
        owned = [_shape(place, own) for place in places]
        rights = _shapes(owned, keys.shapes.get(key))
        if shape not in rights:
            raise header.fault(
                f"its {part} is not of this family: {header.part}{name} has the shape {shape}, {rights[0]} is right"
            )
        pieces = _pieces(tensors[name], owned)
        for place, piece in zip(places, pieces, strict=True):
            if place.rows is None:
                placed[place.parameter] = piece.reshape(own[place.parameter])
            else:
                parts.setdefault(place.parameter, {})[place.rows[0]] = piece
    with torch.inference_mode(False):
        placed |= {name: torch.cat([found[row] for row in sorted(found)]) for name, found in parts.items()}
        module.eval().requires_grad_(False).load_state_dict(placed, strict=True, assign=True)
        return module


def build(
    make: Callable[[], M],
    weights: Mapping[str, Tensor],
    *,
    header: Header,
    part: str,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> M:
    """The module that `make` constructs, with these weights, which bear its own names.

    They are taken as they are, or in another place and precision where one is given. Raises ModelFileError where some
    are missing, superfluous, or of another shape than the module's.
    """
    with torch.inference_mode(False):
        module = empty(make)
        placed = {key: weight.to(device=device, dtype=dtype) for key, weight in weights.items()}
        try:
            module.load_state_dict(placed, strict=True, assign=True)
        except RuntimeError as error:
            faults = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
            raise header.fault(f"its {part} is not complete or not of this family: {' '.join(faults)[:500]}") from error
        return module.to(device=device).eval().requires_grad_(False)


def _shapes(owned: Sequence[tuple[int, ...]], told: tuple[int, ...] | None) -> list[tuple[int, ...]]:
    """The shapes that an original weight may have: that of its layout, or that of the module."""
    joined = owned[0] if len(owned) == 1 else (sum(shape[0] for shape in owned), *owned[0][1:])
    return [joined] if told is None else [told, joined]


def _shape(place: Place, own: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The shape of a place in a module whose parameters have these."""
    shape = own[place.parameter]
    return shape if place.rows is None else (place.rows[1] - place.rows[0], *shape[1:])


def _pieces(weight: Tensor, owned: Sequence[tuple[int, ...]]) -> Sequence[Tensor]:
    """The parts of an original weight that go to places of these shapes."""
    return [weight] if len(owned) == 1 else torch.split(weight, [shape[0] for shape in owned])


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} others" if len(keys) > NAMED else ""
    return f"{', '.join(keys[:NAMED])}{more}"
