import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm_wuerstchen import DDPMWuerstchenScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.diffusion import levels, ranges
from limner.diffusion.beta import quantiles
from limner.diffusion.denoiser import Clean, Consistency, CosmosFlow, Restored
from limner.diffusion.schedules import SCHEDULES

TABLE = levels.scaled_linear(0.00085, 0.012, steps=1000)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_every_range_falls_from_its_highest_level_to_none(steps: int) -> None:
    made = [
        ranges.karras(steps, 0.03, 15.0),
        ranges.exponential(steps, 0.03, 15.0),
        ranges.polyexponential(steps, 0.03, 15.0, 2.0),
    ]
    for sigmas in made:
        assert (len(sigmas), float(sigmas[-1])) == (steps + 1, 0.0)
        assert float(sigmas[0]) == pytest.approx(15.0, rel=1e-5)
        assert (sigmas.diff() < 0).all()
        assert sigmas.dtype == torch.float32


def test_karras_is_even_in_a_root_of_the_level() -> None:
    roots = ranges.karras(9, 0.1, 10.0, 3.0)[:-1] ** (1 / 3)
    assert torch.allclose(roots.diff(), roots.diff()[:1].expand(8), atol=1e-5)


def test_the_exponential_range_is_the_polyexponential_one_of_the_first_power() -> None:
    assert torch.allclose(ranges.exponential(9, 0.1, 10.0), ranges.polyexponential(9, 0.1, 10.0, 1.0), rtol=1e-5)


@pytest.mark.parametrize(("rho", "before"), [(0.5, 5), (2.0, 2)])
def test_the_power_says_where_most_steps_are(rho: float, before: int) -> None:
    """Of ten steps, how many end above the middle of the range, 1."""
    assert int((ranges.polyexponential(10, 0.01, 100.0, rho)[1:] > 1).sum()) == pytest.approx(before, abs=2)


def test_a_laplace_range_lies_about_its_middle_and_ends_at_its_lowest_level() -> None:
    sigmas = ranges.laplace(101, 0.0001, 10000.0, mu=0.5, beta=0.3)
    logs = sigmas.log() - 0.5
    assert torch.allclose(logs, -logs.flip(0), atol=1e-3)
    assert float(logs[25]) == pytest.approx(0.3 * math.log(2), abs=1e-3), "a quarter of the mass is above"
    assert ranges.laplace(20, 0.5, 2.0).tolist()[-1] == 0.5


def test_a_variance_preserving_range_follows_its_diffusion() -> None:
    """sigma² + 1 = exp(the integral of beta from 0 to t)."""
    sigmas = ranges.variance_preserving(5, 19.9, 0.1, 0.2)
    times = torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2])
    assert torch.allclose((sigmas[:-1] ** 2 + 1).log(), 19.9 * times**2 / 2 + 0.1 * times, rtol=1e-5)


@pytest.mark.parametrize(
    ("steps", "denoise", "timesteps"),
    [(1, 1.0, [999]), (3, 1.0, [999, 899, 799]), (4, 0.3, [299, 199, 99]), (2, 0.0, [])],
)
def test_turbo_models_know_ten_steps(steps: int, denoise: float, timesteps: list[int]) -> None:
    assert torch.allclose(ranges.turbo(TABLE, steps, denoise)[:-1], TABLE.table[timesteps])


def test_the_beta_schedule_is_that_range_with_both_shapes_equal() -> None:
    assert torch.equal(SCHEDULES["beta"](TABLE, 20), ranges.beta(TABLE, 20, 0.6, 0.6))
    late, early = ranges.beta(TABLE, 20, 0.5, 3.0), ranges.beta(TABLE, 20, 3.0, 0.5)
    assert late[10] < early[10]


SHAPES = st.floats(0.05, 50)
SHARES = st.lists(st.floats(1e-6, 1 - 1e-6), min_size=1, max_size=3)
FEW = settings(deadline=None, max_examples=20)


@FEW
@given(SHARES, SHAPES)
def test_quantiles_are_known_where_one_shape_is_one(shares: list[float], shape: float) -> None:
    wanted = torch.tensor(shares, dtype=torch.float64)
    assert torch.allclose(quantiles(wanted, shape, 1.0), wanted ** (1 / shape), atol=1e-9)
    assert torch.allclose(quantiles(wanted, 1.0, shape), 1 - (1 - wanted) ** (1 / shape), atol=1e-9)


@FEW
@given(SHARES, SHAPES, SHAPES)
def test_quantiles_mirror_when_the_shapes_are_swapped(shares: list[float], a: float, b: float) -> None:
    wanted = torch.tensor(shares, dtype=torch.float64)
    assert torch.allclose(quantiles(wanted, a, b), 1 - quantiles(1 - wanted, b, a), atol=1e-7)


def test_quantiles_of_two_and_two_are_those_of_a_cubic() -> None:
    """Its mass below x is 3x² - 2x³."""
    places = quantiles(torch.linspace(0, 1, 9, dtype=torch.float64), 2.0, 2.0)
    assert torch.allclose(3 * places**2 - 2 * places**3, torch.linspace(0, 1, 9, dtype=torch.float64))


def test_a_distilled_network_knows_every_twentieth_level_of_its_teacher() -> None:
    known = levels.distilled(TABLE)
    assert len(known) == 50
    assert torch.equal(known.table, TABLE.table[19::20])
    assert known.timestep(known.table).tolist() == list(range(19, 1000, 20))
    assert torch.allclose(known.sigma(known.timestep(known.table).float()), known.table)
    assert known.at(0.25) == pytest.approx(TABLE.at(0.25), rel=1e-2)


@pytest.mark.parametrize("time", [0.05, 0.3, 0.7, 0.95])
def test_cosine_levels_are_those_of_wuerstchen(time: float) -> None:
    theirs = DDPMWuerstchenScheduler(scaler=1.0)._alpha_cumprod(torch.tensor(time), "cpu")
    ours = levels.cosine().sigma(torch.tensor(time))
    assert float(1 / (ours**2 + 1)) == pytest.approx(float(theirs), rel=1e-4)
    assert float(levels.cosine().timestep(ours)) == pytest.approx(time, abs=1e-4)


def test_a_shift_brings_cosine_levels_nearer_to_the_noise() -> None:
    """By its square in the ratio of picture to noise."""
    time = torch.tensor(0.5)
    assert float(levels.cosine(2.0).sigma(time)) == pytest.approx(2 * float(levels.cosine().sigma(time)), rel=1e-4)
    assert levels.cosine(2.0).at(0.5) == pytest.approx(float(levels.cosine(2.0).sigma(time)), rel=1e-6)


def test_odds_levels_find_their_timestep_again() -> None:
    known = levels.odds(0.002, 80.0)
    assert torch.allclose(known.sigma(known.timestep(known.table)), known.table, rtol=1e-3)
    assert float(known.sigma(torch.tensor(1.0))) == pytest.approx(80.0, rel=1e-5)


@pytest.mark.parametrize("timestep", [19, 499, 999])
def test_a_consistency_network_is_weighed_as_its_authors_do(timestep: int) -> None:
    scheduler = LCMScheduler()
    scheduler.sigma_data = 0.5
    skip, out = scheduler.get_scalings_for_boundary_condition_discrete(timestep)
    prediction = Consistency(levels.distilled(TABLE))
    x, output, sigma = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2), TABLE.table[timestep]
    expected = out * (x - output * sigma) + skip * x
    assert torch.allclose(prediction.clean(x, output, sigma), expected, atol=1e-4)


@pytest.mark.parametrize("level", [0.01, 1.0, 80.0])
def test_a_cosmos_network_tells_the_way_from_picture_to_noise(level: float) -> None:
    prediction, sigma = CosmosFlow(levels.odds(0.002, 80.0)), torch.tensor(level)
    clean, noise = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    x = clean + sigma * noise
    share = sigma / (1 + sigma)
    assert torch.allclose(prediction.network_input(x, sigma), (1 - share) * clean + share * noise, atol=1e-4)
    assert torch.allclose(prediction.clean(x, noise - clean, sigma), clean, atol=1e-3)
    assert torch.allclose(prediction.start(noise, clean, sigma), x)


def test_networks_that_tell_the_picture_itself_are_believed() -> None:
    x, told, sigma = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2), torch.tensor(3.0)
    assert Clean(TABLE).clean(x, told, sigma) is told
    assert torch.allclose(Clean(TABLE).network_input(x, sigma), x / math.sqrt(10))
    assert Restored(TABLE).network_input(x, sigma) is x
