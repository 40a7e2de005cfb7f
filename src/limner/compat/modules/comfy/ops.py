"""Layers of networks that packs build: torch's own, with or without a change of precision when they run."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.compat.modules.comfy.model_management import cast_to as cast_to
from limner.errors import UnfitInput


def cast_to_input(weight: Tensor, input: Tensor, non_blocking: bool = False, copy: bool = True) -> Tensor:
    return cast_to(weight, input.dtype, input.device, non_blocking=non_blocking, copy=copy)


def cast_bias_weight(
    s: Any,
    input: Tensor | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
    bias_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor | None]:
    """A layer's weight and bias as they are needed for an input."""
    if input is not None:
        dtype, device = dtype or input.dtype, device or input.device
    bias = getattr(s, "bias", None)
    weight = cast_to(s.weight, dtype, device)
    return weight, None if bias is None else cast_to(bias, bias_dtype or dtype, device)


class CastWeightBiasOp:
    """comfy_cast_weights: weights are brought to the input's precision and place when the layer runs."""

    comfy_cast_weights = False
    weight_function: tuple[Any, ...] = ()
    bias_function: tuple[Any, ...] = ()
    weight: Tensor

    def reset_parameters(self) -> None:
        """Weights come from files: they are not drawn."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not self.comfy_cast_weights:
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        return self.forward_comfy_cast_weights(*args, **kwargs)

    def forward_comfy_cast_weights(self, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        like = input if input.is_floating_point() else self.weight  # an embedding's input is numbers of rows
        weight, bias = cast_bias_weight(self, like)
        given = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        return torch.func.functional_call(_Plain(self), given, (input, *args), kwargs)


class _Plain(nn.Module):
    """A layer under its own torch forward; its tensors are handed in."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._layer = [layer]
        self.weight = layer.weight
        self.bias = getattr(layer, "bias", None)

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        layer: Any = self._layer[0]
        if isinstance(layer, nn.Linear):
            return F.linear(input, self.weight, self.bias)
        if isinstance(layer, nn.Embedding):
            found = F.embedding(input, self.weight, layer.padding_idx)
            return found if kwargs.get("out_dtype") is None else found.to(kwargs["out_dtype"])
        if isinstance(layer, nn.GroupNorm):
            return F.group_norm(input, layer.num_groups, self.weight, self.bias, layer.eps)
        if isinstance(layer, nn.LayerNorm):
            return F.layer_norm(input, layer.normalized_shape, self.weight, self.bias, layer.eps)
        if isinstance(layer, nn.RMSNorm):
            return F.rms_norm(input, layer.normalized_shape, self.weight, layer.eps)
        if isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d)):
            transposed: Any = F.conv_transpose1d if isinstance(layer, nn.ConvTranspose1d) else F.conv_transpose2d
            return transposed(
                input, self.weight, self.bias, layer.stride, layer.padding, layer.output_padding, layer.groups,
                layer.dilation,
            )  # fmt: skip
        return layer._conv_forward(input, self.weight, self.bias)


class disable_weight_init:  # noqa: N801 - ComfyUI's names, here and below
    """torch's layers, whose weights are not drawn when they are made."""

    @classmethod
    def conv_nd(cls, dims: int, *args: Any, **kwargs: Any) -> Any:
        """A convolution over so many dimensions."""
        return getattr(cls, f"Conv{dims}d")(*args, **kwargs)


class manual_cast(disable_weight_init):  # noqa: N801
    """The same, whose weights are brought to the input's precision when they run."""


class _Embedding(nn.Embedding):
    def forward(self, input: Tensor, out_dtype: torch.dtype | None = None) -> Tensor:
        found = super().forward(input)
        return found if out_dtype is None else found.to(out_dtype)


LAYERS = {
    each.__name__.lstrip("_"): each
    for each in (
        nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.ConvTranspose1d,
        nn.ConvTranspose2d, _Embedding,
    )
}  # fmt: skip

for _name, _layer in LAYERS.items():
    _plain = type(_name, (CastWeightBiasOp, _layer), {"__module__": "comfy.ops", "__doc__": f"torch's {_name}."})
    setattr(disable_weight_init, _name, _plain)
    setattr(manual_cast, _name, type(_name, (_plain,), {"__module__": "comfy.ops", "comfy_cast_weights": True}))


def pick_operations(
    weight_dtype: torch.dtype | None,
    compute_dtype: torch.dtype | None,
    load_device: Any = None,
    disable_fast_fp8: bool = False,
    fp8_optimizations: bool = False,
    scaled_fp8: torch.dtype | None = None,
) -> type[disable_weight_init]:
    """The layers for weights of one precision that are computed with in another."""
    if scaled_fp8 is not None:
        raise UnfitInput("Limner's layers for packs know no scaled fp8; its own loaders read such files")
    return disable_weight_init if compute_dtype is None or weight_dtype == compute_dtype else manual_cast
