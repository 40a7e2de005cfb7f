"""What VAEs tell of a picture. Kingma and Welling 2013, arXiv:1312.6114."""

from __future__ import annotations

import torch
from torch import Tensor


class DiagonalGaussianDistribution:
    """Mean and log variance, one behind the other in the channels. deterministic: without variance."""

    def __init__(self, parameters: Tensor, deterministic: bool = False) -> None:
        self.parameters = parameters
        self.mean, logvar = parameters.chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)
        self.deterministic = deterministic
        self.std = torch.zeros_like(self.mean) if deterministic else (0.5 * self.logvar).exp()
        self.var = self.std**2

    def sample(self) -> Tensor:
        return self.mean + self.std * torch.randn_like(self.mean)

    def mode(self) -> Tensor:
        return self.mean
