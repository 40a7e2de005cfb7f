"""What was recorded of KSampler, and how far from it Limner's own walk ends."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limner.diffusion.denoiser import Epsilon, Flow, Prediction
from limner.diffusion.levels import (
    Levels,
    angles,
    exponential_shift,
    log_uniform,
    scaled_linear,
    straight,
    zero_terminal,
)
from limner.diffusion.samplers import SAMPLERS
from limner.diffusion.sampling import Walk
from limner.diffusion.schedules import sigmas
from tests.unit.diffusion.pictures import Normal

FIXTURES = Path(__file__).parents[2] / "data/fixtures"
SAMPLED: dict[str, Any] = json.loads((FIXTURES / "samplers.json").read_text())
LATENTS = np.load(FIXTURES / "samplers.npz")
SCHEDULED: dict[str, Any] = json.loads((FIXTURES / "sigmas.json").read_text())["models"]

PREDICTIONS: dict[str, Prediction] = {
    "sd15_eps": Epsilon(scaled_linear(0.00085, 0.012, steps=1000)),
    "flow_shift_3_sd3": Flow(straight(3)),
}
LEVELS: dict[str, Levels] = {
    **dict.fromkeys(("sd15_eps", "sd2_v", "sdxl"), PREDICTIONS["sd15_eps"].levels),
    "v_zsnr": zero_terminal(0.00085, 0.012, steps=1000),
    "edm_playground": log_uniform(0.002, 80),
    "v_continuous": angles(0.03, 500),
    "flow_shift_1": straight(1),
    "flow_shift_3_sd3": straight(3),
    "flow_shift_8": straight(8),
    "flow_shift_1_mult_1": straight(1, full=1),
    "flux_shift_1.15": exponential_shift(1.15),
    "flux_schnell_shift_0": exponential_shift(0),
}


@dataclass
class Walked:
    """A recorded walk, walked again. error: how far its latent ends from the recorded one, at the worst place."""

    error: float = 0.0
    asked: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)


def walk(key: str) -> Walked:
    """Noise, start, schedule and end as the KSampler node makes them; the denoiser is known in closed form."""
    model, schedule, name = key.split("/")
    sampler, prediction, mean = SAMPLERS[name], PREDICTIONS[model], torch.from_numpy(LATENTS["mu"])
    pictures = Normal(mean, SAMPLED["sd"], prediction.path, unguided=-0.5 * mean)
    passed = sigmas(schedule, prediction.levels, SAMPLED["steps"], skip_next_to_last=sampler.skip_next_to_last)
    run = Walk(prediction=prediction, sampler=sampler, sigmas=passed, seed=SAMPLED["seed"])
    walked = Walked()
    end = run.run(pictures, torch.zeros(SAMPLED["shape"]), on_step=lambda step, clean: walked.steps.append(step))
    walked.error = float((end - torch.from_numpy(LATENTS[key])).abs().max())
    walked.asked = pictures.asked
    return walked


def passed(kind: str, schedule: str, run: str) -> list[float]:
    """The levels of one recorded run, such as steps_20 or steps_20_denoise_0.5."""
    steps, _, rest = run.removeprefix("steps_").partition("_")
    part = float(rest.removeprefix("denoise_")) if rest.startswith("denoise_") else 1.0
    without = rest == "dpm_2_or_uni_pc"
    return sigmas(schedule, LEVELS[kind], int(steps), denoise=part, skip_next_to_last=without).tolist()
