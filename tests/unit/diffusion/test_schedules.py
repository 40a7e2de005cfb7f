import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from limner.diffusion.levels import Levels, scaled_linear
from limner.diffusion.schedules import SCHEDULES, sigmas

TRUTH = json.loads((Path(__file__).parents[2] / "data/fixtures/sigmas.json").read_text())["models"]["sd15_eps"]
LEVELS = scaled_linear(0.00085, 0.012, steps=1000)


@pytest.fixture
def levels() -> Levels:
    return LEVELS


def test_the_table_of_a_scaled_linear_network_is_the_recorded_one(levels: Levels) -> None:
    assert len(levels) == TRUTH["table_rows"]
    assert levels.table[:5].tolist() == pytest.approx(TRUTH["table_first5"], rel=1e-6)
    assert levels.table[-5:].tolist() == pytest.approx(TRUTH["table_last5"], rel=1e-6)
    assert (levels.low, levels.high) == pytest.approx((TRUTH["sigma_min"], TRUTH["sigma_max"]), rel=1e-6)


def test_a_level_finds_its_timestep_and_back(levels: Levels) -> None:
    for sigma, timestep in TRUTH["timestep_of_sigma"].items():
        assert levels.timestep(torch.tensor([float(sigma)])).item() == timestep
    every = torch.arange(1000)
    assert levels.timestep(levels.sigma(every)).tolist() == every.tolist()


def recorded() -> Iterator[tuple[str, int]]:
    """Every schedule at every recorded number of steps, but for the one that is NaN in the recording."""
    for name in SCHEDULES:
        yield from ((name, steps) for steps in (1, 4, 20, 30) if (name, steps) != ("kl_optimal", 1))


@pytest.mark.parametrize(("name", "steps"), list(recorded()))
def test_a_schedule_passes_the_recorded_levels(levels: Levels, name: str, steps: int) -> None:
    want = TRUTH["schedules"][name][f"steps_{steps}"]
    assert sigmas(name, levels, steps).tolist() == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_half_denoising_walks_the_lower_end_of_a_longer_schedule(levels: Levels, name: str) -> None:
    want = TRUTH["schedules"][name]["steps_20_denoise_0.5"]
    assert sigmas(name, levels, 20, denoise=0.5).tolist() == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_some_samplers_go_without_the_last_level_above_zero(levels: Levels, name: str) -> None:
    want = TRUTH["schedules"][name]["steps_4_dpm_2_or_uni_pc"]
    assert sigmas(name, levels, 4, skip_next_to_last=True).tolist() == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 999, 1000, 2500])
def test_a_schedule_falls_to_zero_for_any_number_of_steps(levels: Levels, name: str, steps: int) -> None:
    passed = sigmas(name, levels, steps)
    assert passed.isfinite().all()
    assert passed[-1] == 0
    assert (passed.diff() <= 0).all()


def test_nothing_to_denoise_is_an_empty_schedule(levels: Levels) -> None:
    assert len(sigmas("normal", levels, 20, denoise=0.0)) == 0
