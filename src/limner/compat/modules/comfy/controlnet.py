"""Control networks: those that Limner loads, and a base for packs' own."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.compat.kinds import of_kind
from limner.compat.state import library
from limner.compat.unoffered import no_class
from limner.models.controlnet import adapter, net
from limner.models.controlnet.chain import Control, Residuals, merged
from limner.models.controlnet.chain import StrengthType as StrengthType
from limner.models.controlnet.load import load_controlnet as _load_controlnet
from limner.models.patcher import Patcher

ControlNet = of_kind("ControlNet", net.ControlNet, "comfy.controlnet")
T2IAdapter = of_kind("T2IAdapter", adapter.T2IAdapter, "comfy.controlnet")
ControlLora = no_class("comfy.controlnet", "ControlLora")
ControlNetSD35 = no_class("comfy.controlnet", "ControlNetSD35")


class _EveryControl(ABCMeta):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Control) if cls is ControlBase else super().__instancecheck__(instance)


class ControlBase(Control, metaclass=_EveryControl):
    """A control of a pack's own: a subclass answers in `get_control`, or gives its residuals to `control_merge`."""

    def __init__(self) -> None:
        super().__init__(patcher=Patcher.__new__(Patcher), name=type(self).__name__)
        self.timestep_percent_range = (0.0, 1.0)

    def get_models(self) -> list[Patcher]:
        return [] if self.previous_controlnet is None else self.previous_controlnet.get_models()

    def residuals(
        self, x_noisy: Tensor, t: Tensor, cond: Mapping[str, Any], batched_number: int, options: Mapping[str, Any]
    ) -> Residuals:
        raise NotImplementedError(f"{self.name} has no method get_control")

    def copy_to(self, c: Control) -> None:
        """Gives another the picture, the strength and the range of this one."""
        for name in COPIED:
            setattr(c, name, getattr(self, name))

    def control_merge(
        self, control: Residuals, control_prev: Residuals | None, output_dtype: torch.dtype | None = None
    ) -> Residuals:
        """Residuals at this one's strength, with those of the controls before it."""
        made = merged(self.weighted(control), control_prev)
        return {
            place: [each if each is None or output_dtype is None else each.to(output_dtype) for each in found]
            for place, found in made.items()
        }


COPIED = (
    "cond_hint_original", "strength", "timestep_percent_range", "global_average_pooling", "compression_ratio",
    "upscale_algorithm", "extra_args", "vae", "strength_type",
)  # fmt: skip


def load_controlnet(ckpt_path: str, model: Any = None, model_options: Mapping[str, Any] | None = None) -> Control:
    """A ControlNet or a T2I-Adapter of a file."""
    return _load_controlnet(Path(ckpt_path), library().devices, model)


def broadcast_image_to(tensor: Tensor, target_batch_size: int, batched_number: int) -> Tensor:
    """Pictures repeated or cut to a batch that holds several conditionings."""
    per_item = target_batch_size // batched_number
    repeats: Sequence[int] = (-(-per_item // len(tensor)), *[1] * (tensor.ndim - 1))
    fitted = tensor.repeat(*repeats)[:per_item]
    return fitted if batched_number == 1 else torch.cat([fitted] * batched_number)
