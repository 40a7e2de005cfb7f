"""The names under which node packs know predictions and latent spaces, each of them Limner's own by another name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from limner.diffusion.levels import Levels


class KnownLatents:
    """What packs ask of a latent space."""

    __slots__ = ()

    def process_in(self: Any, latent: Tensor) -> Tensor:
        """Latents of the VAE in the network's units."""
        inside: Tensor = self.into_network(latent)
        return inside

    def process_out(self: Any, latent: Tensor) -> Tensor:
        """The inverse of `process_in`."""
        outside: Tensor = self.out_of_network(latent)
        return outside

    @property
    def latent_channels(self: Any) -> int:
        return int(self.channels)

    @property
    def latent_dimensions(self: Any) -> int:
        return int(self.dimensions)

    @property
    def scale_factor(self: Any) -> float:
        return float(self.scale)

    @property
    def shift_factor(self: Any) -> float:
        return float(self.shift)

    @property
    def latent_rgb_factors(self: Any) -> list[list[float]] | None:
        """A row of red, green and blue for each channel; None where no guess is known."""
        return [list(row) for row in self.rgb] or None

    @property
    def latent_rgb_factors_bias(self: Any) -> list[float] | None:
        return list(self.rgb_bias) if any(self.rgb_bias) else None

    @property
    def taesd_decoder_name(self: Any) -> str | None:
        return f"{self.tiny}_decoder" if self.tiny else None

    @property
    def spacial_downscale_ratio(self: Any) -> int:
        return int(self.stride)


class _Predicting(Protocol):
    levels: Levels

    def network_input(self, x: Tensor, sigma: Tensor) -> Tensor: ...
    def clean(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor: ...
    def begun(self, noise: Tensor, latent: Tensor, sigma: Tensor, *, whole: bool) -> Tensor: ...
    def end(self, x: Tensor, sigma: Tensor) -> Tensor: ...


class KnownPrediction:
    """What packs ask of a `model_sampling`. Levels of a batch come as (B,) or laid out like x."""

    __slots__ = ()

    @property
    def sigmas(self: _Predicting) -> Tensor:
        """Every level the network was trained at, rising."""
        return self.levels.table

    @property
    def sigma_min(self: _Predicting) -> Tensor:
        return self.levels.table[0]

    @property
    def sigma_max(self: _Predicting) -> Tensor:
        return self.levels.table[-1]

    @property
    def sigma_data(self: Any) -> float:
        return float(getattr(self, "spread", 1.0))

    def timestep(self: _Predicting, sigma: Tensor) -> Tensor:
        return self.levels.timestep(sigma)

    def sigma(self: _Predicting, timestep: Tensor) -> Tensor:
        return self.levels.sigma(timestep)

    def percent_to_sigma(self: _Predicting, percent: float) -> float:
        return self.levels.at(percent)

    def calculate_input(self: _Predicting, sigma: Tensor, noise: Tensor) -> Tensor:
        """What the network is given for x = `noise`."""
        return self.network_input(noise, like(sigma, noise))

    def calculate_denoised(self: _Predicting, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        """The clean x behind `model_input`."""
        return self.clean(model_input, model_output, like(sigma, model_input))

    def noise_scaling(
        self: _Predicting, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool = False
    ) -> Tensor:
        """The latent under noise of a level; `max_denoise` where the walk begins with noise alone."""
        return self.begun(noise, latent_image, like(sigma, noise), whole=max_denoise)

    def inverse_noise_scaling(self: _Predicting, sigma: Tensor, latent: Tensor) -> Tensor:
        """What a walk that ended at this level hands on."""
        return self.end(latent, like(sigma, latent))


def like(sigma: Tensor, x: Tensor) -> Tensor:
    """One level as it is, those of a batch laid out to be multiplied with x."""
    return sigma if sigma.ndim == 0 else sigma.reshape(sigma.shape[:1] + (1,) * (x.ndim - 1))
