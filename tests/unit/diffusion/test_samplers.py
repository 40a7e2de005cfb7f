import math
from itertools import product

import pytest
import torch
from torch import Tensor

from limner.diffusion.denoiser import Epsilon, Flow
from limner.diffusion.levels import LogLevels, scaled_linear, straight
from limner.diffusion.path import EXPLODING, Path, Straight
from limner.diffusion.samplers import SAMPLERS, Sampler
from limner.diffusion.sampling import Walk
from limner.diffusion.schedules import karras, sigmas
from tests.unit.diffusion.pictures import Normal, noise_between, noise_in_turn

LEVELS = scaled_linear(0.00085, 0.012, steps=1000)
NO_EXACT_PATH = {"lcm", "ddpm", "dpm_adaptive"}
"""Two that are random always, and one that chooses its steps itself: see their own tests."""


def without_noise(name: str) -> Sampler:
    """The sampler as a walk along the exact path."""
    if name == "er_sde":
        return SAMPLERS[name].tuned(scaler=lambda level: level)
    return SAMPLERS[name].tuned(eta=0.0) if SAMPLERS[name].takes("eta") else SAMPLERS[name]


def end_of(sampler: Sampler, pictures: Normal, x: Tensor, path: Tensor, seed: int = 0) -> Tensor:
    return sampler(
        pictures,
        x,
        path,
        path=pictures.path,
        draw=noise_in_turn(x, seed),
        between=noise_between(x, seed),
        at=lambda done: float(path[0]) * (1 - done),
    )


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in NO_EXACT_PATH])
def test_error_shrinks_with_the_order_of_the_sampler(name: str) -> None:
    """Random samplers too, once their noise is turned off."""
    sampler = without_noise(name)
    pictures = Normal(torch.zeros(1, 1, 1, 1, dtype=torch.float64), 1.0)
    start = torch.full((1, 1, 1, 1), 10.0, dtype=torch.float64)

    def error(steps: int) -> float:
        path = karras(LogLevels(torch.tensor([0.1, 10.0])), steps)[:-1].double()
        return float((end_of(sampler, pictures, start, path) - pictures.exact(start, path[0], path[-1])).abs())

    steps = 160 if sampler.order > 3 else 640  # with more the rounding of float64 is all that is left
    assert math.log2(error(steps) / error(2 * steps)) == pytest.approx(sampler.order, abs=0.2)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in NO_EXACT_PATH and SAMPLERS[name].order > 0])
@pytest.mark.parametrize("path", [EXPLODING, Straight()], ids=["exploding", "straight"])
@pytest.mark.parametrize("seed", [1, 2])
def test_many_steps_lead_to_the_exact_picture(name: str, path: Path, seed: int) -> None:
    """For data of any mean, spread and number of dimensions, between any levels."""
    generator = torch.Generator().manual_seed(seed)
    shape = ((2, 3), (1, 2, 3, 2, 2))[seed - 1]
    mean = torch.randn(shape, generator=generator, dtype=torch.float64)
    pictures = Normal(mean, 0.3 + 0.5 * seed, path)
    high = 20.0 / seed if path == EXPLODING else 1 - 0.01 * seed
    passed = karras(LogLevels(torch.tensor([0.02 * seed, high])), 150)[:-1].double()
    start = pictures.noisy(passed[0], generator)
    end = end_of(without_noise(name), pictures, start, passed)
    assert (end - pictures.exact(start, passed[0], passed[-1])).abs().max() < 0.05


KEEP_NO_SPREAD = {"lcm", "dpmpp_2s_ancestral_cfg_pp"}
KEEP_NO_STRAIGHT_SPREAD = {*KEEP_NO_SPREAD, "ddpm", "res_multistep_ancestral", "res_multistep_ancestral_cfg_pp"}
"""They add the noise of the exploding path on any path."""


@pytest.mark.parametrize(
    ("name", "path"),
    [(name, EXPLODING) for name in SAMPLERS if SAMPLERS[name].random and name not in KEEP_NO_SPREAD]
    + [(name, Straight()) for name in SAMPLERS if SAMPLERS[name].random and name not in KEEP_NO_STRAIGHT_SPREAD],
)
def test_a_random_sampler_keeps_the_spread_of_the_data(name: str, path: Path) -> None:
    """Whatever noise is added on the way, the end has the mean and the variance of the data."""
    sampler, generator = SAMPLERS[name], torch.Generator().manual_seed(7)
    pictures = Normal(torch.full((1, 4, 48, 48), -1.5), 0.6, path)
    levels = LEVELS if path == EXPLODING else straight(3)
    passed = sigmas("karras" if path == EXPLODING else "normal", levels, 300)
    passed[0] = min(float(passed[0]), levels.at(1e-4))
    end = end_of(sampler, pictures, pictures.noisy(passed[0], generator), passed, seed=8)
    assert float(end.mean()) == pytest.approx(-1.5, abs=0.05)
    assert float(end.std()) == pytest.approx(0.6, abs=0.03)


def test_lcm_covers_what_it_believes_with_the_noise_of_each_level() -> None:
    clean = torch.full((1, 4, 64, 64), 2.0)
    seen: list[Tensor] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(x)
        return clean

    x = torch.zeros_like(clean)
    end = SAMPLERS["lcm"](denoise, x, torch.tensor([1.0, 0.5, 0.0]), path=Straight(), draw=noise_in_turn(x, 1))
    assert torch.equal(end, clean)
    assert float(seen[1].mean()) == pytest.approx(1.0, abs=0.02)
    assert float(seen[1].std()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("order", [2, 3])
def test_an_adaptive_sampler_is_as_exact_as_it_is_told_to_be(order: int) -> None:
    pictures = Normal(torch.randn(1, 2, 4, dtype=torch.float64), 0.8)
    start, path = pictures.noisy(torch.tensor(10.0), torch.Generator().manual_seed(1)), torch.tensor([10.0, 0.1])

    def error(tolerance: float) -> float:
        sampler = SAMPLERS["dpm_adaptive"].tuned(order=order, rtol=tolerance, atol=tolerance)
        return float((sampler(pictures, start, path.double()) - pictures.exact(start, *path.double())).abs().max())

    assert error(0.05) < 0.2
    assert error(1e-5) < 1e-4


def test_an_adaptive_sampler_comes_to_an_end_however_exact_it_should_be() -> None:
    pictures = Normal(torch.ones(1, 2, 4), 0.8)
    sampler, start, path = (
        SAMPLERS["dpm_adaptive"].tuned(rtol=0.0, atol=0.0),
        pictures.mean * 12,
        torch.tensor([9.0, 0.1]),
    )
    assert torch.allclose(sampler(pictures, start, path), pictures.exact(start, *path), atol=1e-3)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name.endswith("cfg_pp")])
def test_the_answer_without_guidance_counts_where_a_sampler_looks_at_it(name: str) -> None:
    mean, passed = torch.ones(1, 4, 8, 8), karras(LEVELS, 10)
    alike, other = Normal(mean, 0.7), Normal(mean, 0.7, unguided=-mean)
    start = alike.noisy(passed[0], torch.Generator().manual_seed(1))
    assert (
        end_of(SAMPLERS[name], alike, start, passed) - end_of(SAMPLERS[name], other, start, passed)
    ).abs().max() > 0.1


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name.endswith("cfg_pp") and SAMPLERS[name].order > 0])
def test_where_guidance_changes_nothing_neither_does_minding_it(name: str) -> None:
    pictures, passed = Normal(torch.ones(1, 4, 8, 8), 0.7), karras(LEVELS, 10)
    start = pictures.noisy(passed[0], torch.Generator().manual_seed(1))
    ends = [end_of(SAMPLERS[each], pictures, start, passed) for each in (name, name.removesuffix("_cfg_pp"))]
    assert torch.allclose(*ends, atol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_walk_without_steps_leaves_the_latent_as_it_is(name: str) -> None:
    latent = torch.randn(1, 4, 8, 8)
    walk = Walk(prediction=Epsilon(LEVELS), sampler=SAMPLERS[name], sigmas=torch.empty(0), seed=1)
    assert walk.run(lambda x, sigma: x * 0, latent) is latent


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("prediction", [Epsilon(LEVELS), Flow(straight(3))], ids=["epsilon", "flow"])
def test_any_number_of_steps_and_any_part_of_them_ends_in_numbers(name: str, prediction: Epsilon | Flow) -> None:
    sampler, latent = SAMPLERS[name], torch.ones(1, 2, 4, 4)
    pictures = Normal(latent, 0.7, prediction.path)
    for steps, part in product((1, 2, 5), (1.0, 0.5)):
        passed = sigmas("normal", prediction.levels, steps, denoise=part, skip_next_to_last=sampler.skip_next_to_last)
        for levels in (passed, passed[:-1]):
            walk = Walk(prediction=prediction, sampler=sampler, sigmas=levels, seed=3)
            assert walk.run(pictures, latent).isfinite().all(), (steps, part, len(levels))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_walk_with_a_broken_network_ends(name: str) -> None:
    """In no numbers, which the caller finds, but it ends."""
    pictures = Normal(torch.full((1, 2, 4, 4), torch.nan), 0.7)
    walk = Walk(prediction=Epsilon(LEVELS), sampler=SAMPLERS[name], sigmas=karras(LEVELS, 5), seed=3)
    assert walk.run(pictures, torch.zeros(1, 2, 4, 4)).isnan().all()


def test_a_sampler_can_be_tuned() -> None:
    pictures, passed = Normal(torch.ones(1, 4, 8, 8), 0.7), karras(LEVELS, 10)
    start = pictures.noisy(passed[0], torch.Generator().manual_seed(1))
    still = end_of(SAMPLERS["euler_ancestral"].tuned(eta=0.0), pictures, start, passed)
    assert torch.allclose(still, end_of(SAMPLERS["euler"], pictures, start, passed), atol=1e-5)
