"""What LoRA files call the modules of a network: one table for the original names and the libraries' own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from limner.models.keys import KeyMap, Place

DENOISER = "diffusion_model."
ENCODER_STYLES = ("lora_te", "text_encoder", "clip_l.", "clip_g.", "clip_h.", "t5xxl.")
"""How names of text encoders' modules begin, in one style or another."""


NUMBERS = {"clip_g": 2, "t5xxl": 3}
"""What encoders are also called in LoRA files, wherever they stand."""


@dataclass(frozen=True, slots=True)
class Target:
    """A module's weight and bias by their original keys, without the end; `rows` of them, or None for all."""

    key: str
    rows: tuple[int, int] | None = None


def denoiser_names(module: nn.Module, keys: KeyMap) -> dict[str, Target]:
    """Every name that a LoRA file may have for a module of a denoising network."""
    names: dict[str, Target] = {}
    for base, target, own in _modules(module, keys):
        original = base.removeprefix(DENOISER)
        if own is not None:
            for alias in (own, own.replace("class_embedding.", "add_embedding.")):
                for style in ("", "unet.", "transformer.", DENOISER):
                    names.setdefault(f"{style}{alias}", target)
                for style in ("lora_unet_", "lora_transformer_", "lycoris_"):
                    names.setdefault(f"{style}{_joined(alias)}", target)
        if target.rows is None:
            for style in ("", DENOISER, f"model.{DENOISER}", "transformer."):
                names[f"{style}{original}"] = target
            for style in ("lora_unet_", "lycoris_"):
                names[f"{style}{_joined(original)}"] = target
    return names


def encoder_names(module: nn.Module, keys: KeyMap) -> dict[str, Target]:
    """Every name that a LoRA file may have for a module of one or several text encoders.

    Files number the encoders; a second CLIP is also called 2 where it stands alone, and T5 3 behind one CLIP.
    """
    order = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    names: dict[str, Target] = {}
    for base, target, _ in _modules(module, keys):
        if target.rows is not None:
            continue
        encoder, _, rest = base.partition(".")
        inner = rest.removeprefix("transformer.")
        numbers = {order.index(encoder) + 1, NUMBERS.get(encoder, order.index(encoder) + 1)}
        kohya = [f"lora_te{number}_" for number in sorted(numbers)] + (["lora_te_"] if encoder == order[0] else [])
        library = ["text_encoder." if number == 1 else f"text_encoder_{number}." for number in sorted(numbers)]
        for part in (inner, inner.removeprefix("text_model.")):
            for alias in (part, *_old_attention(part)):
                for style in (*library, f"{encoder}.", f"text_encoders.{encoder}.transformer."):
                    names.setdefault(f"{style}{alias}", target)
            for style in kohya:
                names.setdefault(f"{style}{_joined(part)}", target)
        names[base] = target
        names[f"text_encoders.{base}"] = target
    return names


def is_encoder_name(name: str) -> bool:
    """Whether this is a name for a part of a text encoder."""
    return name.startswith(ENCODER_STYLES) or name.startswith("text_encoders.")


def shape_of(module: nn.Module, keys: KeyMap, key: str) -> tuple[int, ...]:
    """The shape of an original weight."""
    if key in keys.shapes:
        return keys.shapes[key]
    places = keys.places[key]
    shape = tuple(module.get_parameter(places[0].parameter).shape)
    if len(places) == 1 and places[0].rows is None:
        return shape
    return (sum(_rows(module, place) for place in places), *shape[1:])


def _modules(module: nn.Module, keys: KeyMap) -> Iterator[tuple[str, Target, str | None]]:
    """Each module: its original name, what it is, and its name in the library, where the library has it whole."""
    for key, places in keys.places.items():
        base, _, end = key.rpartition(".")
        if end not in ("weight", "bias"):
            continue
        if len(places) == 1 and places[0].rows is None:
            yield base, Target(base), places[0].parameter.rpartition(".")[0]
            continue
        yield base, Target(base), None
        first = 0
        for place in places:
            last = first + _rows(module, place)
            if place.rows is None:
                yield base, Target(base, (first, last)), place.parameter.rpartition(".")[0]
            first = last


def _rows(module: nn.Module, place: Place) -> int:
    return place.rows[1] - place.rows[0] if place.rows else len(module.get_parameter(place.parameter))


def _joined(name: str) -> str:
    return name.replace(".", "_")


def _old_attention(name: str) -> tuple[str, ...]:
    """What old files of diffusers call the parts of a text encoder's attention."""
    for ours, theirs in (("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out")):
        if name.endswith(f"self_attn.{ours}"):
            return (name.removesuffix(ours) + theirs,)
    return ()
