import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.diffusion.denoiser import Epsilon
from limner.diffusion.levels import Levels, scaled_linear
from limner.diffusion.samplers import SAMPLERS
from limner.diffusion.sampling import Walk
from limner.diffusion.schedules import karras, sigmas

FIXTURES = Path(__file__).parents[2] / "data/fixtures"
RECORDED = json.loads((FIXTURES / "samplers.json").read_text())
LATENTS = np.load(FIXTURES / "samplers.npz")
LEVELS = scaled_linear(0.00085, 0.012, steps=1000)
WITHOUT_NOISE = [name for name, sampler in SAMPLERS.items() if not sampler.random]


def test_every_sampler_is_held_against_a_recording() -> None:
    assert {key.rsplit("/", 1)[1] for key in RECORDED["runs"]} == set(SAMPLERS)


@pytest.mark.parametrize("key", RECORDED["runs"])
def test_a_sampler_ends_where_the_recorded_one_did(key: str) -> None:
    """The closed-form denoiser of data from N(mu, 0.7²); noise, start and schedule as the KSampler node makes them."""
    _, schedule, name = key.split("/")
    truth, sampler, mu = RECORDED["runs"][key], SAMPLERS[name], torch.from_numpy(LATENTS["mu"])
    asked: list[float] = []
    steps: list[int] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append(float(sigma))
        return mu + (x - mu) * RECORDED["sd"] ** 2 / (RECORDED["sd"] ** 2 + sigma**2)

    passed = sigmas(schedule, LEVELS, RECORDED["steps"], skip_next_to_last=sampler.skip_next_to_last)
    walk = Walk(prediction=Epsilon(LEVELS), sampler=sampler, sigmas=passed, seed=RECORDED["seed"])
    end = walk.run(denoise, torch.zeros(RECORDED["shape"]), on_step=lambda step, clean: steps.append(step))

    assert (end - torch.from_numpy(LATENTS[key])).abs().max() < 1e-4
    assert asked == pytest.approx(truth["sigmas_of_calls"], abs=1e-4)
    assert steps == truth["callback_steps"]


@pytest.mark.parametrize("name", WITHOUT_NOISE)
def test_error_shrinks_with_the_order_of_the_sampler(name: str) -> None:
    """Data from N(0, 1) has a known denoiser, x / (1 + sigma²), and so a known path to compare with."""
    sampler, start = SAMPLERS[name], torch.full((1, 4, 8, 8), 10.0, dtype=torch.float64)

    def error(steps: int) -> float:
        path = karras(Levels(torch.tensor([0.1, 10.0])), steps)[:-1].double()
        end = sampler(lambda x, sigma: x / (1 + sigma**2), start, path)
        return float((end - start * math.sqrt((1 + path[-1] ** 2) / (1 + path[0] ** 2))).abs().max())

    assert math.log2(error(640) / error(1280)) == pytest.approx(sampler.order, abs=0.1)


@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if sampler.random and name != "lcm"])
def test_a_random_sampler_keeps_the_spread_of_the_data(name: str) -> None:
    """Data from N(0, 1): whatever noise is added on the way, the end has variance 1 again."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1, 4, 64, 64, generator=generator) * math.sqrt(1 + LEVELS.high**2)
    end = SAMPLERS[name](
        lambda x, sigma: x / (1 + sigma**2),
        start,
        karras(LEVELS, 400),
        draw=lambda: torch.randn(start.shape, generator=generator),
    )
    assert float(end.std()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_walk_without_steps_leaves_the_latent_as_it_is(name: str) -> None:
    latent = torch.randn(1, 4, 8, 8)
    walk = Walk(prediction=Epsilon(LEVELS), sampler=SAMPLERS[name], sigmas=torch.empty(0), seed=1)
    assert walk.run(lambda x, sigma: x * 0, latent) is latent
