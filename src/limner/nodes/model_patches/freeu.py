"""FreeU: a UNet whose way up hears less of its skips and more of its own. Si et al. 2023, arXiv:2309.11497."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor, fft

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Float
from limner.models import model as models
from limner.nodes.sockets import Model

MODULE = "comfy_extras.nodes_freelunch"
CATEGORY = "model_patches/unet"

Factor = Annotated[float, Float(0, 10, step=0.01)]

Strengthen = Callable[[Tensor, float], Tensor]
"""(h, factor) to what h is multiplied by."""


@node("FreeU", category=CATEGORY, module=MODULE)
def freeu(*, model: Model, b1: Factor = 1.1, b2: Factor = 1.2, s1: Factor = 0.9, s2: Factor = 0.2) -> Model:
    """Strengthens half of a UNet's own channels (b) and weakens the low frequencies of its skips (s).

    b1, s1: in the widest blocks. b2, s2: in those of half their width.
    """
    return _patched(model, {4: (b1, s1), 2: (b2, s2)}, lambda _, factor: torch.tensor(factor))


@node("FreeU_V2", category=CATEGORY, module=MODULE)
def freeu_v2(*, model: Model, b1: Factor = 1.3, b2: Factor = 1.4, s1: Factor = 0.9, s2: Factor = 0.2) -> Model:
    """As FreeU, but the channels are strengthened most where they are strongest on average."""

    def by_mean(h: Tensor, factor: float) -> Tensor:
        mean = h.mean(dim=1, keepdim=True)
        low, high = mean.amin(dim=(2, 3), keepdim=True), mean.amax(dim=(2, 3), keepdim=True)
        return 1 + (factor - 1) * (mean - low) / (high - low).clamp(min=1e-12)

    return _patched(model, {4: (b1, s1), 2: (b2, s2)}, by_mean)


def _patched(model: models.Model, factors: dict[int, tuple[float, float]], strengthen: Strengthen) -> models.Model:
    first = getattr(model.model.diffusion_model, "conv_in", None)
    if first is None:
        raise UnfitInput(f"FreeU is for models with a UNet (Stable Diffusion 1, 2, XL), which {model.name} has not")
    by_width = {first.out_channels * times: told for times, told in factors.items()}

    def patch(h: Tensor, skip: Tensor, _options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        told = by_width.get(h.shape[1])
        if told is None:
            return h, skip
        half = h.shape[1] // 2
        factor = strengthen(h, told[0]).to(h)
        return torch.cat([h[:, :half] * factor, h[:, half:]], dim=1), _without_lows(skip, told[1])

    changed = model.clone()
    changed.set_model_output_block_patch(patch)
    return changed


def _without_lows(skip: Tensor, factor: float) -> Tensor:
    """The skip with its lowest frequencies, the mean and its neighbours, multiplied by `factor`."""
    spectrum = fft.fftshift(fft.fftn(skip.float(), dim=(-2, -1)), dim=(-2, -1))
    row, column = (edge // 2 for edge in skip.shape[-2:])
    spectrum[..., max(0, row - 1) : row + 1, max(0, column - 1) : column + 1] *= factor
    changed: Tensor = fft.ifftn(fft.ifftshift(spectrum, dim=(-2, -1)), dim=(-2, -1)).real
    return changed.to(skip.dtype)
