"""LoraFile: the parts of a LoRA file by the name of the module they are for, whatever the style it is written in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from limner.models.lora.sums import Decomposed, Generalized, Hadamard, Kronecker, LowRank, Part, Sum, Whole
from limner.models.weights import Weights, open_weights

ROLES = {
    ".lora_up.weight": "up",
    ".lora_down.weight": "down",
    ".lora_mid.weight": "core",
    ".lora_B.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B": "up",
    ".lora_A": "down",
    ".lora.up.weight": "up",
    ".lora.down.weight": "down",
    "_lora.up.weight": "up",
    "_lora.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".alpha": "alpha",
    ".dora_scale": "lengths",
    ".lora_magnitude_vector": "lengths",
    ".lora_magnitude_vector.weight": "lengths",
    ".lora_magnitude_vector.default.weight": "lengths",
    ".hada_w1_a": "a1",
    ".hada_w1_b": "b1",
    ".hada_w2_a": "a2",
    ".hada_w2_b": "b2",
    ".hada_t1": "core1",
    ".hada_t2": "core2",
    ".lokr_w1": "small",
    ".lokr_w1_a": "small_a",
    ".lokr_w1_b": "small_b",
    ".lokr_w2": "large",
    ".lokr_w2_a": "large_a",
    ".lokr_w2_b": "large_b",
    ".lokr_t2": "large_core",
    ".a1.weight": "glora_a1",
    ".a2.weight": "glora_a2",
    ".b1.weight": "glora_b1",
    ".b2.weight": "glora_b2",
    ".diff": "difference",
    ".w_norm": "difference",
    ".diff_b": "bias",
    ".b_norm": "bias",
}
"""How the keys of each style end, and what such a tensor is."""

ENDS = sorted(ROLES, key=len, reverse=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Module:
    """What a file changes of one module: its weight, its bias, or both."""

    weight: Sum | None = None
    bias: Sum | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoraFile:
    """A LoRA by the modules it changes. unread: keys in no known style."""

    name: str
    modules: Mapping[str, Module]
    unread: tuple[str, ...]


def read_lora(path: Path) -> LoraFile:
    """A LoRA file. Raises ModelFileError where it cannot be read, or where nothing in it is a LoRA."""
    return parsed(open_weights(path))


def parsed(weights: Weights) -> LoraFile:
    """The parts of a LoRA. Raises ModelFileError for one without any, and for parts that are not whole."""
    header = weights.header
    found: dict[str, dict[str, Tensor]] = {}
    unread = []
    for key in weights:
        end = next((end for end in ENDS if key.endswith(end)), None)
        if end is None:
            unread.append(key)
        else:
            found.setdefault(plain(key.removesuffix(end)), {})[ROLES[end]] = weights.tensor(key)
    modules = {}
    for name, parts in found.items():
        weight = _sum(parts)
        bias = None if "bias" not in parts else Whole(difference=parts["bias"])
        if weight is None and bias is None:
            unread.append(f"{name} ({', '.join(sorted(parts))})")
            continue
        if weight is not None and weight.size() is None:
            shapes = ", ".join(f"{role} {tuple(each.shape)}" for role, each in sorted(parts.items()))
            raise header.fault(f"its tensors for {name} do not go together: {shapes}")
        modules[name] = Module(weight=weight, bias=bias)
    if not modules:
        shown = ", ".join(unread[:3])
        raise header.fault(f"it holds no LoRA in a style that is known here; its tensors are {shown} ...")
    return LoraFile(name=header.path.name, modules=modules, unread=tuple(unread))


def plain(name: str) -> str:
    """A module's name as it is today. Old files of diffusers name the attention's processor, and its end is short."""
    if ".processor." in name or name.endswith(("attn1.to_out", "attn2.to_out")):
        name = name.replace(".processor.", ".")
        return f"{name}.0" if name.endswith(".to_out") else name
    return name.removeprefix("base_model.model.")


def _sum(parts: Mapping[str, Tensor]) -> Sum | None:
    """What these tensors add to a weight; None where they are nothing whole."""
    change = _product(parts)
    if change is None or "lengths" not in parts:
        return change
    return Decomposed(directions=change, lengths=parts["lengths"])


def _product(parts: Mapping[str, Tensor]) -> Sum | None:
    alpha = float(parts["alpha"]) if "alpha" in parts and parts["alpha"].numel() == 1 else None
    if {"up", "down"} <= parts.keys():
        return LowRank(up=parts["up"], down=parts["down"], core=parts.get("core"), alpha=alpha)
    if {"a1", "b1", "a2", "b2"} <= parts.keys():
        a1, b1, a2, b2 = (parts[name] for name in ("a1", "b1", "a2", "b2"))
        core1, core2 = parts.get("core1"), parts.get("core2")
        return Hadamard(a1=a1, b1=b1, a2=a2, b2=b2, core1=core1, core2=core2, alpha=alpha)
    small, large = _factor(parts, "small"), _factor(parts, "large")
    if small is not None and large is not None:
        return Kronecker(small=small, large=large, alpha=alpha)
    if {"glora_a1", "glora_a2", "glora_b1", "glora_b2"} <= parts.keys():
        a1, a2, b1, b2 = (parts[f"glora_{name}"] for name in ("a1", "a2", "b1", "b2"))
        return Generalized(a1=a1, a2=a2, b1=b1, b2=b2, alpha=alpha)
    return Whole(difference=parts["difference"]) if "difference" in parts else None


def _factor(parts: Mapping[str, Tensor], name: str) -> Part | None:
    if name in parts:
        return Part(whole=parts[name])
    if {f"{name}_a", f"{name}_b"} <= parts.keys():
        return Part(a=parts[f"{name}_a"], b=parts[f"{name}_b"], core=parts.get(f"{name}_core"))
    return None
