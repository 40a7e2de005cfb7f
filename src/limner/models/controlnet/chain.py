"""Control: what a CONTROL_NET socket carries: a network, with its picture and strength once it is applied."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.diffusion.conditioning import fit_batch
from limner.diffusion.planes import middle
from limner.errors import UnfitInput
from limner.models.model import BaseModel
from limner.models.patcher import Patcher

Residuals = dict[str, list[Tensor | None]]
"""What is added to a denoiser's states: to `input` blocks, `middle` and `output` skips, as `unet.run` takes it."""


class StrengthType(Enum):
    """How strength counts over the blocks: alike, or less and less towards the first ones."""

    CONSTANT = 1
    LINEAR_UP = 2


class Control(ABC):
    """A control network as one user applies it. The names are those that node packs know.

    cond_hint_original: the picture, (B, C, H, W) in 0..1. cond_hint: what the network gets of it, kept through a walk.
    strength_type, global_average_pooling: what is made of the residuals. compression_ratio: pixels of the picture for
    a place of the latent.
    """

    def __init__(self, patcher: Patcher, name: str) -> None:
        self.patcher = patcher
        self.name = name
        self.cond_hint_original: Tensor | None = None
        self.cond_hint: Tensor | None = None
        self.strength = 1.0
        self.timestep_percent_range = (0.0, 1.0)
        self.timestep_range: tuple[float, float] | None = None
        self.vae: Any = None
        self.extra_args: dict[str, Any] = {}
        self.strength_type = StrengthType.CONSTANT
        self.global_average_pooling = False
        self.compression_ratio = 8
        self.previous_controlnet: Control | None = None
        self.base: BaseModel | None = None

    def copy(self) -> Self:
        """The same network for another use, to be given its own picture."""
        other = self.__class__.__new__(self.__class__)
        other.__dict__.update(self.__dict__)
        other.extra_args = dict(self.extra_args)
        other.cond_hint = other.previous_controlnet = other.base = other.timestep_range = None
        return other

    def set_cond_hint(
        self,
        cond_hint: Tensor,
        strength: float = 1.0,
        timestep_percent_range: tuple[float, float] = (0.0, 1.0),
        vae: Any = None,
    ) -> Self:
        """Applies it: a picture (B, C, H, W) in 0..1, how much it counts, and in which part of the way."""
        self.cond_hint_original = cond_hint
        self.strength = strength
        self.timestep_percent_range = timestep_percent_range
        self.vae = vae
        return self

    def set_previous_controlnet(self, controlnet: Control | None) -> Self:
        """Adds those that were applied before."""
        self.previous_controlnet = controlnet
        return self

    def set_extra_arg(self, argument: str, value: Any = None) -> None:
        """A choice for networks that have one, such as `control_type`."""
        self.extra_args[argument] = value

    @property
    def control_model_wrapped(self) -> Patcher:
        """What holds the weights."""
        return self.patcher

    @property
    def load_device(self) -> torch.device:
        return self.patcher.load_device

    def get_models(self) -> list[Patcher]:
        """The networks that must be on the device, with those before it."""
        before = [] if self.previous_controlnet is None else self.previous_controlnet.get_models()
        return [*before, self.patcher]

    def pre_run(self, model: BaseModel, percent_to_timestep_function: Callable[[float], float]) -> None:
        """To be called before each walk, with the model that walks."""
        start, end = self.timestep_percent_range
        self.timestep_range = (percent_to_timestep_function(start), percent_to_timestep_function(end))
        self.base = model
        if self.previous_controlnet is not None:
            self.previous_controlnet.pre_run(model, percent_to_timestep_function)

    def cleanup(self) -> None:
        """Forgets what was kept for a walk."""
        self.cond_hint = self.base = self.timestep_range = None
        if self.previous_controlnet is not None:
            self.previous_controlnet.cleanup()

    def get_control(
        self,
        x_noisy: Tensor,
        t: Tensor,
        cond: Mapping[str, Any],
        batched_number: int,
        transformer_options: Mapping[str, Any] | None = None,
    ) -> Residuals | None:
        """What it and those before it add at this level; None where none of them counts here.

        x_noisy: (B, C, h, w). t: levels, (B,). cond: what the denoiser is given, for `batched_number` conditionings.
        Raises UnfitInput where it was made for another family of models.
        """
        options = transformer_options or {}
        previous = self.previous_controlnet
        before = None if previous is None else previous.get_control(x_noisy, t, cond, batched_number, options)
        if self.timestep_range is not None and not self.timestep_range[1] <= float(t[0]) <= self.timestep_range[0]:
            return before
        return merged(self.weighted(self.residuals(x_noisy, t, cond, batched_number, options)), before)

    @abstractmethod
    def residuals(
        self, x_noisy: Tensor, t: Tensor, cond: Mapping[str, Any], batched_number: int, options: Mapping[str, Any]
    ) -> Residuals:
        """What the network itself adds, at full strength."""

    def weighted(self, residuals: Residuals) -> Residuals:
        """Residuals pooled and by strength, as this user wants them."""
        return {
            place: [None if each is None else self._weighted(each, len(found) - i) for i, each in enumerate(found)]
            for place, found in residuals.items()
        }

    def _weighted(self, residual: Tensor, from_last: int) -> Tensor:
        if self.global_average_pooling:
            residual = residual.mean(dim=(2, 3), keepdim=True).expand_as(residual)
        if self.strength_type is StrengthType.LINEAR_UP:
            return residual * self.strength**from_last
        return residual * self.strength

    def hint(self, x_noisy: Tensor, batched_number: int, channels: int, *, multiple_of: int = 1) -> Tensor:
        """The picture for a latent like x_noisy, on its device: in its size, its middle, an item for each of x's."""
        if self.cond_hint_original is None:
            raise UnfitInput(f"{self.name} was given no picture: apply it by a node such as ControlNetApplyAdvanced")
        height, width = (-(-edge * self.compression_ratio // multiple_of) * multiple_of for edge in x_noisy.shape[-2:])
        if self.cond_hint is None or self.cond_hint.shape[-2:] != (height, width):
            fitted = fitted_hint(_with_channels(self.cond_hint_original, channels, self.name), width, height)
            self.cond_hint = fitted.to(x_noisy.device)
        per_item = len(x_noisy) // batched_number
        return fit_batch(self.cond_hint, per_item).repeat(batched_number, 1, 1, 1)


def merged(ours: Residuals, before: Residuals | None) -> Residuals:
    """The sum of two lots of residuals, place by place; the longer list's end stays as it is."""
    if before is None:
        return ours
    summed: Residuals = {}
    for place in dict.fromkeys((*ours, *before)):
        one, other = ours.get(place, []), before.get(place, [])
        length = max(len(one), len(other))
        summed[place] = [_sum(_at(one, number), _at(other, number)) for number in range(length)]
    return summed


def fitted_hint(picture: Tensor, width: int, height: int) -> Tensor:
    """The middle of a picture (B, C, H, W), as large as its proportions allow, in this size; no pixel is mixed."""
    if picture.shape[-2:] == (height, width):
        return picture
    return F.interpolate(middle(picture, width, height), size=(height, width), mode="nearest-exact")


def _with_channels(picture: Tensor, channels: int, name: str) -> Tensor:
    """A picture of three channels, or one of their mean."""
    if picture.ndim != 4 or 0 in picture.shape or picture.shape[1] < 3 or channels not in (1, 3):
        raise UnfitInput(
            f"{name} takes pictures with {channels} channels; it was given one of the shape {tuple(picture.shape)} "
            "(batch, channels, height, width)"
        )
    picture = picture[:, :3].to(torch.float32)
    return picture.mean(dim=1, keepdim=True) if channels == 1 else picture


def _at(residuals: Sequence[Tensor | None], number: int) -> Tensor | None:
    return residuals[number] if number < len(residuals) else None


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return one if other is None else other
    return one + other.to(one)
