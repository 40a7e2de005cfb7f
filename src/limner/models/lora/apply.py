"""A LoRA's changes given to a model and to its text encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from limner.errors import UnfitInput
from limner.models.lora.names import Target, denoiser_names, encoder_names, is_encoder_name, shape_of
from limner.models.lora.origin import looks_made_for
from limner.models.lora.read import LoraFile
from limner.models.lora.sums import Rows, Sum
from limner.models.patcher import Patcher
from limner.models.patches import WeightPatch

SHOWN = 3


@dataclass(slots=True)
class Found:
    """What a LoRA changes in one network: patches by original key, each for rows or for all of it."""

    patches: dict[str, list[WeightPatch]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)


def add_lora(
    lora: LoraFile,
    model: Patcher | None,
    clip: Patcher | None,
    *,
    model_name: str,
    strength_model: float,
    strength_clip: float,
    warn: Callable[[str], None],
) -> None:
    """Adds a LoRA to these patchers, which are the caller's own clones. Strengths may be negative; 0 adds nothing.

    Raises UnfitInput, naming both, where the LoRA has nothing for them, or parts of another size. Parts that are
    unknown to them beside known ones are told to `warn`.
    """
    found = {
        "model": _found(lora, model, denoiser_names, model_name),
        "clip": _found(lora, clip, encoder_names, model_name),
    }
    known = found["model"].names | found["clip"].names
    unknown = [name for name in lora.modules if name not in known]
    if clip is None:  # its parts for text encoders are left out on purpose
        unknown = [name for name in unknown if not is_encoder_name(name)]
    if not known:
        if not unknown:
            raise UnfitInput(f"{lora.name} changes text encoders alone: give it those too (LoraLoader)")
        raise UnfitInput(
            f"{lora.name} does not fit {model_name}: none of its {len(lora.modules)} parts is known there "
            f"({', '.join(unknown[:SHOWN])} ...){_guess(lora)}"
        )
    _add(model, found["model"], strength_model)
    _add(clip, found["clip"], strength_clip)
    left = [*unknown, *lora.unread]
    if left:
        warn(
            f"{lora.name}: {len(left)} parts are unknown to {model_name} and are left out, such as "
            f"{', '.join(left[:SHOWN])}"
        )


def _found(lora: LoraFile, user: Patcher | None, table: Callable[..., Mapping[str, Target]], model_name: str) -> Found:
    found = Found()
    if user is None:
        return found
    names = table(user.module, user.keys)
    for name, part in lora.modules.items():
        target = names.get(name)
        if target is None:
            continue
        for end, change in (("weight", part.weight), ("bias", part.bias)):
            key = f"{target.key}.{end}"
            if change is None or key not in user.keys:
                continue
            _check(lora, name, change, _shape(user, key, target), model_name)
            placed = change if target.rows is None else Rows(inner=change, first=target.rows[0], end=target.rows[1])
            found.patches.setdefault(key, []).append(placed)
            found.names.add(name)
    return found


def _shape(user: Patcher, key: str, target: Target) -> tuple[int, ...]:
    shape = shape_of(user.module, user.keys, key)
    return shape if target.rows is None else (target.rows[1] - target.rows[0], *shape[1:])


def _check(lora: LoraFile, name: str, change: Sum, shape: tuple[int, ...], model_name: str) -> None:
    if not change.fits(shape):
        raise UnfitInput(
            f"{lora.name} does not fit {model_name}: its change to {name} is of size {change.size()}, the weight there "
            f"has the shape {shape}{_guess(lora)}"
        )


def _add(user: Patcher | None, found: Found, strength: float) -> None:
    if user is None or not strength:
        return
    most = max(map(len, found.patches.values()), default=0)
    for number in range(most):  # a joined weight gets several: one for each of its parts
        user.add_weight_patches(
            {
                key: replace(patches[number], strength=strength)
                for key, patches in found.patches.items()
                if number < len(patches)
            }
        )


def _guess(lora: LoraFile) -> str:
    family = looks_made_for(lora)
    return f"; it looks made for {family}" if family else ""
