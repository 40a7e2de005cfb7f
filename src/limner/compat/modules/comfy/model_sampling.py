"""What networks predict, in the parts that packs put together: `class Mine(ModelSamplingDiscrete, EPS)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limner.diffusion import denoiser, levels
from limner.diffusion.known import like
from limner.diffusion.levels import Levels
from limner.models.known_base import ModelType

NONE = Levels(torch.ones(1))
"""For what does not look at levels."""


class EPS:
    """The network tells the noise. Subclasses of this kind differ in what they mean by an answer."""

    kind: type[denoiser.Prediction] = denoiser.Epsilon

    def calculate_input(self, sigma: Tensor, noise: Tensor) -> Tensor:
        return self._meaning().network_input(noise, like(sigma, noise))

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        return self._meaning().clean(model_input, model_output, like(sigma, model_input))

    def noise_scaling(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool = False) -> Tensor:
        return self._meaning().begun(noise, latent_image, like(sigma, noise), whole=max_denoise)

    def inverse_noise_scaling(self, sigma: Tensor, latent: Tensor) -> Tensor:
        return self._meaning().end(latent, like(sigma, latent))

    def _meaning(self) -> denoiser.Prediction:
        if issubclass(self.kind, denoiser.Edm):
            return self.kind(NONE, getattr(self, "sigma_data", 0.5))
        return self.kind(NONE)


class V_PREDICTION(EPS):  # noqa: N801 - ComfyUI's names, here and below
    kind: type[denoiser.Prediction] = denoiser.Velocity


class EDM(V_PREDICTION):
    kind: type[denoiser.Prediction] = denoiser.Edm


class X0(EPS):
    kind = denoiser.Clean


class IMG_TO_IMG(X0):  # noqa: N801
    kind = denoiser.Restored


class CONST(EPS):
    kind = denoiser.Flow


class COSMOS_RFLOW(EPS):  # noqa: N801
    kind = denoiser.CosmosFlow


class _Sampling(nn.Module):
    """Levels by the names that packs know. `take` sets them."""

    levels: Levels
    sigmas: Tensor
    sigma_data = 1.0

    def take(self, known: Levels) -> None:
        self.levels = known
        self.register_buffer("sigmas", known.table, persistent=False)

    @property
    def sigma_min(self) -> Tensor:
        return self.sigmas[0]

    @property
    def sigma_max(self) -> Tensor:
        return self.sigmas[-1]

    def timestep(self, sigma: Tensor) -> Tensor:
        return self.levels.timestep(torch.as_tensor(sigma))

    def sigma(self, timestep: Tensor) -> Tensor:
        return self.levels.sigma(torch.as_tensor(timestep))

    def percent_to_sigma(self, percent: float) -> float:
        return self.levels.at(percent)


def _settings(model_config: Any) -> Mapping[str, Any]:
    return getattr(model_config, "sampling_settings", None) or {}


class ModelSamplingDiscrete(_Sampling):
    """The levels of a network of the Stable Diffusion kind. zsnr: trained down to no picture at all."""

    def __init__(self, model_config: Any = None, zsnr: bool | None = None) -> None:
        super().__init__()
        told = _settings(model_config)
        without = told.get("zsnr", False) if zsnr is None else zsnr
        table = levels.zero_terminal if without else levels.scaled_linear
        low, high = told.get("linear_start", 0.00085), told.get("linear_end", 0.012)
        self.take(table(low, high, steps=told.get("timesteps", 1000)))

    @property
    def log_sigmas(self) -> Tensor:
        return self.sigmas.log()

    @property
    def num_timesteps(self) -> int:
        return len(self.sigmas)

    def set_sigmas(self, sigmas: Tensor) -> None:
        """Takes another table of levels, rising."""
        self.take(Levels(sigmas.float()))


class ModelSamplingDiscreteEDM(ModelSamplingDiscrete):
    """The same levels, told the network by a quarter of their logarithm."""

    def timestep(self, sigma: Tensor) -> Tensor:
        return 0.25 * torch.as_tensor(sigma).log()

    def sigma(self, timestep: Tensor) -> Tensor:
        return (torch.as_tensor(timestep) / 0.25).exp()


class ModelSamplingContinuousEDM(_Sampling):
    """Any level between two."""

    def __init__(self, model_config: Any = None) -> None:
        super().__init__()
        told = _settings(model_config)
        ends = told.get("sigma_min", 0.002), told.get("sigma_max", 120.0)
        self.set_parameters(*ends, told.get("sigma_data", 1.0))

    def set_parameters(self, sigma_min: float, sigma_max: float, sigma_data: float) -> None:
        self.sigma_data = sigma_data
        self.take(levels.log_uniform(sigma_min, sigma_max))


class ModelSamplingContinuousV(ModelSamplingContinuousEDM):
    """Any level between two, told by the angle between picture and noise."""

    def set_parameters(self, sigma_min: float, sigma_max: float, sigma_data: float) -> None:
        self.sigma_data = sigma_data
        self.take(levels.angles(sigma_min, sigma_max))


class ModelSamplingDiscreteFlow(_Sampling):
    """The levels of a flow network; with a larger `shift` more of the way is spent near the noise."""

    def __init__(self, model_config: Any = None) -> None:
        super().__init__()
        told = _settings(model_config)
        self.set_parameters(told.get("shift", 1.0) or 1.0, multiplier=told.get("multiplier", 1000))

    def set_parameters(self, shift: float = 1.0, timesteps: int = 1000, multiplier: float = 1000) -> None:
        self.shift, self.multiplier = shift, multiplier
        self.take(levels.straight(shift, full=multiplier, rows=timesteps))


class ModelSamplingFlux(_Sampling):
    """The levels of Flux, whose shift is told by its logarithm."""

    def __init__(self, model_config: Any = None) -> None:
        super().__init__()
        self.set_parameters(_settings(model_config).get("shift", 1.15) or 1.15)

    def set_parameters(self, shift: float = 1.15, timesteps: int = 10000) -> None:
        self.shift = shift
        self.take(levels.exponential_shift(shift, rows=timesteps))


class StableCascadeSampling(_Sampling):
    """The levels of Stable Cascade."""

    def __init__(self, model_config: Any = None) -> None:
        super().__init__()
        self.set_parameters(_settings(model_config).get("shift", 1.0) or 1.0)

    def set_parameters(self, shift: float = 1.0, cosine_s: float = levels.COSINE_OFFSET) -> None:
        self.shift = shift
        self.take(levels.cosine(shift))


class ModelSamplingCosmosRFlow(ModelSamplingContinuousEDM):
    """Any level between two, told by the part of the way to noise."""

    def set_parameters(self, sigma_min: float, sigma_max: float, sigma_data: float) -> None:
        self.sigma_data = sigma_data
        self.take(levels.odds(sigma_min, sigma_max))


def time_snr_shift(alpha: float, t: Any) -> Any:
    """Places 0..1 moved towards 1."""
    return t if alpha == 1.0 else levels.shifted(t, alpha)


def flux_time_shift(mu: float, sigma: float, t: Tensor) -> Tensor:
    """Places 0..1 moved towards 1, by the logarithm of a shift."""
    shift = torch.tensor(mu).exp()
    return shift / (shift + (1 / t - 1) ** sigma)


KINDS: dict[ModelType, tuple[type, type]] = {
    ModelType.EPS: (ModelSamplingDiscrete, EPS),
    ModelType.V_PREDICTION: (ModelSamplingDiscrete, V_PREDICTION),
    ModelType.V_PREDICTION_EDM: (ModelSamplingContinuousEDM, V_PREDICTION),
    ModelType.EDM: (ModelSamplingContinuousEDM, EDM),
    ModelType.FLOW: (ModelSamplingDiscreteFlow, CONST),
    ModelType.FLUX: (ModelSamplingFlux, CONST),
    ModelType.STABLE_CASCADE: (StableCascadeSampling, EPS),
    ModelType.V_PREDICTION_CONTINUOUS: (ModelSamplingContinuousV, V_PREDICTION),
    ModelType.IMG_TO_IMG: (ModelSamplingDiscrete, IMG_TO_IMG),
    ModelType.FLOW_COSMOS: (ModelSamplingCosmosRFlow, COSMOS_RFLOW),
}


def model_sampling(model_config: Any, model_type: ModelType) -> Any:
    """The two parts of a kind put together."""
    return type("ModelSampling", KINDS[model_type], {})(model_config)
