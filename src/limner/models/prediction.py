"""What the networks of the Stable Diffusion kind predict, as far as a file tells."""

from __future__ import annotations

from limner.diffusion.denoiser import Edm, Epsilon, Prediction, Velocity
from limner.diffusion.levels import Levels, log_uniform, scaled_linear, zero_terminal
from limner.models.weights import Weights

LOW, HIGH, STEPS = 0.00085, 0.012, 1000
"""The betas of Rombach et al. 2022, arXiv:2112.10752."""

EPSILON_STEP = 875000
"""After so many steps Stable Diffusion 2 had learned to predict the noise; it went on with v. diffusers tells so."""

SAYS_V = frozenset({"v", "v_prediction", "v-prediction", "velocity"})
SAYS_NOISE = frozenset({"epsilon", "eps", "noise"})


def prediction(file: Weights, *, default: type[Prediction] = Epsilon) -> Prediction:
    """What the network predicts, by the file's markers or its metadata; `default` where it says nothing."""
    if "edm_mean" in file:
        return Edm(log_uniform(0.002, 80.0))  # Playground 2.5, Li et al. 2024, arXiv:2402.17245
    if "edm_vpred.sigma_max" in file:  # CosXL
        low = _number(file, "edm_vpred.sigma_min", 0.002)
        return Velocity(log_uniform(low, _number(file, "edm_vpred.sigma_max", 120.0)))
    return _kind(file, default)(_levels(file))


def second_generation(file: Weights) -> type[Prediction]:
    """What a file of Stable Diffusion 2 predicts if it does not say: v, unless its count of steps is the older's."""
    return Epsilon if _number(file, "global_step", 0) == EPSILON_STEP else Velocity


def _kind(file: Weights, default: type[Prediction]) -> type[Prediction]:
    if "v_pred" in file or _told(file) in SAYS_V:
        return Velocity
    if _told(file) in SAYS_NOISE:
        return Epsilon
    if file.header.metadata.get("modelspec.architecture", "").startswith("stable-diffusion-v2-768-v"):
        return Velocity
    return default


def _told(file: Weights) -> str:
    return file.header.metadata.get("modelspec.prediction_type", "").lower()


def _levels(file: Weights) -> Levels:
    return (zero_terminal if "ztsnr" in file else scaled_linear)(LOW, HIGH, steps=STEPS)


def _number(file: Weights, key: str, default: float) -> float:
    return float(file.tensor(key).flatten()[0]) if key in file and file.tensor(key).numel() else default
