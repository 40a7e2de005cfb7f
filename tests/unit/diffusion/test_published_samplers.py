"""Ours against what others published, on data and levels drawn at random, in double precision."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor

from limner.diffusion.path import EXPLODING, Path, Straight
from limner.diffusion.samplers import SAMPLERS
from tests.unit.diffusion import published
from tests.unit.diffusion.pictures import Normal, noise_between, noise_in_turn

SEEDS = (11, 12, 13)


class Case:
    """Data of a random mean, spread and shape; a random number of random levels; a start."""

    def __init__(self, seed: int, path: Path = EXPLODING, *, to_zero: bool = True) -> None:
        generator = torch.Generator().manual_seed(seed)

        def between(low: float, high: float) -> float:
            return low + (high - low) * float(torch.rand((), generator=generator))

        shape = [int(between(1, 5)) for _ in range(int(between(2, 6)))]
        steps = int(between(5, 14))
        gaps = 0.3 + torch.rand(steps, generator=generator, dtype=torch.float64)
        low, high = math.log(between(0.02, 0.1)), math.log(between(2, 40))
        levels = (low + (high - low) * gaps.cumsum(0) / gaps.sum()).exp().flip(0)
        if path != EXPLODING:
            levels = levels / (1 + levels)
        self.sigmas = torch.cat([levels, torch.zeros(1, dtype=torch.float64)]) if to_zero else levels
        mean = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.pictures = Normal(mean, between(0.2, 1.5), path)
        self.x = self.pictures.noisy(self.sigmas[0], generator)
        self.seed = seed

    def ours(self, name: str, **options: Any) -> Tensor:
        return SAMPLERS[name].tuned(**options)(
            self.pictures,
            self.x,
            self.sigmas,
            path=self.pictures.path,
            draw=noise_in_turn(self.x, self.seed),
            between=noise_between(self.x, self.seed),
            at=lambda done: float(self.sigmas[0]) ** (1 - 2 * done),
        )

    @property
    def draw(self) -> published.Draw:
        return noise_in_turn(self.x, self.seed)

    @property
    def between(self) -> published.Between:
        return noise_between(self.x, self.seed)


def same(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() < 1e-9)


WITHOUT_NOISE = [
    "euler",
    "heun",
    "heunpp2",
    "dpm_2",
    "lms",
    "dpm_fast",
    "dpmpp_2m",
    "ipndm",
    "ipndm_v",
    "deis",
    "res_multistep",
    "gradient_estimation",
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", WITHOUT_NOISE)
@pytest.mark.parametrize("path", [EXPLODING, Straight()], ids=["exploding", "straight"])
def test_a_sampler_without_noise_is_the_published_one(name: str, path: Path, seed: int) -> None:
    case = Case(seed, path)
    bound = 1e-5 if name == "deis" else 1e-9  # its integrals are those of five points
    theirs = getattr(published, name)(case.pictures, case.x, case.sigmas)
    assert (case.ours(name) - theirs).abs().max() < bound


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("eta", [1.0, 0.6, 0.0])
@pytest.mark.parametrize("name", ["euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral"])
def test_an_ancestral_sampler_is_the_published_one(name: str, eta: float, seed: int) -> None:
    case = Case(seed)
    assert same(case.ours(name, eta=eta), getattr(published, name)(case.pictures, case.x, case.sigmas, case.draw, eta))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("eta", [1.0, 0.6])
def test_euler_ancestral_is_the_published_one_on_a_straight_path(eta: float, seed: int) -> None:
    case = Case(seed, Straight())
    theirs = published.euler_ancestral_straight(case.pictures, case.x, case.sigmas, case.draw, eta)
    assert same(case.ours("euler_ancestral", eta=eta), theirs)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("options", [{}, {"eta": 0.4}, {"r": 0.3}])
def test_dpmpp_sde_is_the_published_one(options: dict[str, float], seed: int) -> None:
    case = Case(seed)
    theirs = published.dpmpp_sde(case.pictures, case.x, case.sigmas, case.between, **options)
    assert same(case.ours("dpmpp_sde", **options), theirs)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("eta", [1.0, 0.4])
@pytest.mark.parametrize("path", [EXPLODING, Straight()], ids=["exploding", "straight"])
def test_multistep_sde_samplers_are_the_published_ones(path: Path, eta: float, seed: int) -> None:
    """Also on a straight path, where ours carries the walk over to the exploding one."""
    case = Case(seed, path)
    given = case.pictures, case.x, case.sigmas, case.between, path.kept, eta
    assert same(case.ours("dpmpp_2m_sde", eta=eta), published.dpmpp_2m_sde(*given))
    assert same(case.ours("dpmpp_2m_sde_heun", eta=eta), published.dpmpp_2m_sde(*given, heun=True))
    assert same(case.ours("dpmpp_3m_sde", eta=eta), published.dpmpp_3m_sde(*given))


@pytest.mark.parametrize("seed", SEEDS)
def test_ddpm_is_the_published_one(seed: int) -> None:
    case = Case(seed)
    assert same(case.ours("ddpm"), published.ddpm(case.pictures, case.x, case.sigmas, case.draw))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("path", [EXPLODING, Straight()], ids=["exploding", "straight"])
def test_samplers_of_high_order_with_noise_are_the_published_ones(path: Path, seed: int) -> None:
    case = Case(seed, path)
    theirs = published.er_sde(case.pictures, case.x, case.sigmas, case.draw, path.kept)
    assert (case.ours("er_sde") - theirs).abs().max() < 1e-5, "its rectangles are float32"
    assert same(case.ours("seeds_2"), published.seeds_2(case.pictures, case.x, case.sigmas, case.draw, path.kept))
    assert same(case.ours("seeds_3"), published.seeds_3(case.pictures, case.x, case.sigmas, case.draw, path.kept))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["sa_solver", "sa_solver_pece"])
def test_sa_solver_is_the_published_one(name: str, seed: int) -> None:
    case = Case(seed, to_zero=False)
    high = float(case.sigmas[0])

    def tau(sigma: Tensor) -> float:
        return 1.0 if high**-0.6 <= float(sigma) <= high**0.6 else 0.0

    theirs = published.sa_solver(case.pictures, case.x, case.sigmas, case.draw, tau, again=name.endswith("pece"))
    assert same(case.ours(name), theirs)


OF_DIFFUSERS = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


@OF_DIFFUSERS
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "form"), [("uni_pc", "bh1"), ("uni_pc_bh2", "bh2")])
def test_uni_pc_is_that_of_diffusers(name: str, form: str, seed: int) -> None:
    case = Case(seed, to_zero=False)
    theirs = UniPCMultistepScheduler(solver_order=3, solver_type=form, prediction_type="sample")
    assert (case.ours(name) - of_diffusers(theirs, case)).abs().max() < 1e-4


@pytest.mark.parametrize("seed", SEEDS)
def test_guidance_on_the_manifold_is_the_published_one(seed: int) -> None:
    """Chung et al. 2024 (CFG++), arXiv:2406.08070, algorithm 2, on x of constant variance."""
    case = Case(seed)
    case.pictures.unguided = -case.pictures.mean
    kept = 1 / (1 + case.sigmas**2)
    x = case.x * kept[0].sqrt()
    for step, (now, then) in enumerate(pairwise(kept)):
        guided, unguided = case.pictures.both(x / now.sqrt(), case.sigmas[step])
        x = then.sqrt() * guided + (1 - then).sqrt() * (x - now.sqrt() * unguided) / (1 - now).sqrt()
    assert same(case.ours("euler_cfg_pp"), x)
    assert same(case.ours("euler_ancestral_cfg_pp", eta=0.0), x)


def of_diffusers(scheduler: Any, case: Case) -> Tensor:
    """A walk by one of its schedulers, which keep x at constant variance, over the same levels."""
    scheduler.set_timesteps(len(case.sigmas) - 1)
    scheduler.sigmas = case.sigmas
    x = case.x / (1 + case.sigmas[0] ** 2).sqrt()
    for step, timestep in enumerate(scheduler.timesteps):
        sigma = case.sigmas[step]
        x = scheduler.step(case.pictures(x * (1 + sigma**2).sqrt(), sigma), timestep, x).prev_sample
    return x * (1 + case.sigmas[-1] ** 2).sqrt()
