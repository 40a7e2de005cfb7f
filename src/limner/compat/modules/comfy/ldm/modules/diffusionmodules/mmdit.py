"""Parts of Stable Diffusion 3."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from limner.compat.modules.comfy.ldm.common_dit import rms_norm
from limner.compat.unoffered import no_class

JointBlock = no_class("comfy.ldm.modules.diffusionmodules.mmdit", "JointBlock")


class RMSNorm(nn.Module):
    """A norm by the mean square, with a weight where it is learned."""

    def __init__(
        self,
        dim: int,
        elementwise_affine: bool = False,
        eps: float = 1e-6,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **_: Any,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim, device=device, dtype=dtype)) if elementwise_affine else None

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)
