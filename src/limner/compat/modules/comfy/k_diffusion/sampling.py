"""Limner's samplers by k-diffusion's call: sample_euler(model, x, sigmas, extra_args, callback, disable, ...)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch as torch
from torch import Tensor

from limner.diffusion import kdiffusion, ranges
from limner.diffusion.noise import Bridge
from limner.diffusion.path import split
from limner.diffusion.samplers import SAMPLERS

globals().update({f"sample_{name}": kdiffusion.function(sampler) for name, sampler in SAMPLERS.items()})


def to_d(x: Tensor, sigma: Tensor, denoised: Tensor) -> Tensor:
    """The slope of x at a level, from the clean x expected there."""
    return (x - denoised) / append_dims(sigma, x.ndim)


def append_dims(x: Tensor, target_dims: int) -> Tensor:
    """A tensor with dimensions of 1 behind its own, up to so many."""
    if x.ndim > target_dims:
        raise ValueError(f"a tensor of {x.ndim} dimensions cannot have {target_dims}")
    return x.reshape(x.shape + (1,) * (target_dims - x.ndim))


def append_zero(x: Tensor) -> Tensor:
    return torch.cat([x, x.new_zeros([1])])


def get_ancestral_step(sigma_from: Any, sigma_to: Any, eta: float = 1.0) -> tuple[Any, Any]:
    """How far to go down, and how much noise to add, so that a step ends at `sigma_to`."""
    if not eta:
        return sigma_to, 0.0
    down, up = split(torch.as_tensor(sigma_from), torch.as_tensor(sigma_to), eta)
    return (down, up) if isinstance(sigma_from, Tensor) else (float(down), float(up))


def default_noise_sampler(x: Tensor, seed: int | None = None) -> Callable[[Any, Any], Tensor]:
    """Fresh noise of x's shape at each call, by a seed where one is given."""
    if seed is None:
        return lambda sigma, sigma_next: torch.randn_like(x)
    generator = torch.Generator(x.device).manual_seed(seed)
    return lambda sigma, sigma_next: torch.randn(
        x.shape, dtype=x.dtype, device=x.device, layout=x.layout, generator=generator
    )


class BrownianTreeNoiseSampler:
    """Noise along one Brownian motion between two levels: `sampler(sigma, sigma_next)`, of unit variance.

    cpu: it is drawn on the CPU, whatever x's device. transform: maps a level to the time of the motion.
    """

    def __init__(
        self,
        x: Tensor,
        sigma_min: Any,
        sigma_max: Any,
        seed: int | None = None,
        transform: Callable[[Any], Any] = lambda sigma: sigma,
        cpu: bool = False,
    ) -> None:
        self.transform = transform
        self._device = x.device
        low, high = sorted(float(transform(torch.as_tensor(each))) for each in (sigma_min, sigma_max))
        drawn = int(torch.randint(2**62, ())) if seed is None else seed
        self.tree = Bridge(seed=drawn, like=x.cpu() if cpu else x, low=low, high=high)

    def __call__(self, sigma: Any, sigma_next: Any) -> Tensor:
        now, then = (self.transform(torch.as_tensor(each)).cpu() for each in (sigma, sigma_next))
        return self.tree(now, then).to(self._device)


def get_sigmas_karras(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0, device: Any = "cpu") -> Tensor:
    return ranges.karras(n, float(sigma_min), float(sigma_max), rho).to(device)


def get_sigmas_exponential(n: int, sigma_min: float, sigma_max: float, device: Any = "cpu") -> Tensor:
    return ranges.exponential(n, float(sigma_min), float(sigma_max)).to(device)


def get_sigmas_polyexponential(
    n: int, sigma_min: float, sigma_max: float, rho: float = 1.0, device: Any = "cpu"
) -> Tensor:
    return ranges.polyexponential(n, float(sigma_min), float(sigma_max), rho).to(device)


def get_sigmas_vp(
    n: int, beta_d: float = 19.9, beta_min: float = 0.1, eps_s: float = 1e-3, device: Any = "cpu"
) -> Tensor:
    return ranges.variance_preserving(n, beta_d, beta_min, eps_s).to(device)
