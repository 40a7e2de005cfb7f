import json
from pathlib import Path

import numpy as np
import pytest
import torch

from limner.diffusion.denoiser import Epsilon, Flow, Prediction
from limner.diffusion.levels import scaled_linear, straight
from limner.diffusion.samplers import SAMPLERS
from limner.diffusion.sampling import Walk
from limner.diffusion.schedules import sigmas
from tests.unit.diffusion.pictures import Normal

FIXTURES = Path(__file__).parents[2] / "data/fixtures"
RECORDED = json.loads((FIXTURES / "samplers.json").read_text())
LATENTS = np.load(FIXTURES / "samplers.npz")
MODELS: dict[str, Prediction] = {
    "sd15_eps": Epsilon(scaled_linear(0.00085, 0.012, steps=1000)),
    "flow_shift_3_sd3": Flow(straight(3)),
}
MEAN = torch.from_numpy(LATENTS["mu"])


def test_every_sampler_is_held_against_a_recording() -> None:
    assert list(dict.fromkeys(key.rsplit("/", 1)[1] for key in RECORDED["runs"])) == list(SAMPLERS)


@pytest.mark.parametrize("key", RECORDED["runs"])
def test_a_sampler_ends_where_the_recorded_one_did(key: str) -> None:
    """Noise, start, schedule and end as the KSampler node makes them."""
    model, schedule, name = key.split("/")
    truth, sampler, prediction = RECORDED["runs"][key], SAMPLERS[name], MODELS[model]
    pictures = Normal(MEAN, RECORDED["sd"], prediction.path, unguided=-0.5 * MEAN)
    steps: list[int] = []

    passed = sigmas(schedule, prediction.levels, RECORDED["steps"], skip_next_to_last=sampler.skip_next_to_last)
    walk = Walk(prediction=prediction, sampler=sampler, sigmas=passed, seed=RECORDED["seed"])
    end = walk.run(pictures, torch.zeros(RECORDED["shape"]), on_step=lambda step, clean: steps.append(step))

    assert (end - torch.from_numpy(LATENTS[key])).abs().max() < 1e-4
    assert pictures.asked == pytest.approx(truth["sigmas_of_calls"], abs=1e-4)
    assert steps == truth["callback_steps"]
