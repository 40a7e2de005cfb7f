"""What one user's model has in place of the base model's own parts, for as long as it is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import reduce
from typing import Any

from limner.diffusion.foreign import adapted
from limner.errors import UnfitInput
from limner.models.model import BaseModel, Model

SAMPLING = "model_sampling"


@contextmanager
def changed(model: Model) -> Iterator[BaseModel]:
    """The base model with this user's object patches: its own parts in a copy, those of the network in the network.

    The network is as it was once the block has run. Raises UnfitInput for a part that is not there.
    """
    own = {field.name for field in fields(BaseModel)}
    top = {name: value for name, value in model.object_patches.items() if name in own}
    if SAMPLING in top:
        top[SAMPLING] = adapted(top[SAMPLING])
    base = replace(model.model, **top)
    before: list[tuple[Any, str, Any]] = []
    try:
        for name, value in model.object_patches.items():
            if name not in own:
                owner, attribute = _place(base, name)
                before.append((owner, attribute, getattr(owner, attribute)))
                setattr(owner, attribute, value)
        yield base
    finally:
        for owner, attribute, value in reversed(before):
            setattr(owner, attribute, value)


def _place(base: BaseModel, name: str) -> tuple[Any, str]:
    *way, last = name.split(".")
    try:
        owner = reduce(getattr, way, base)
        getattr(owner, last)
    except AttributeError as error:
        raise UnfitInput(f"{base.name} has no part {name} that could be replaced") from error
    if owner is base:
        raise UnfitInput(f"{name} of {base.name} cannot be replaced, only its values and its network's parts can")
    return owner, last
