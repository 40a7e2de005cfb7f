import pytest
import torch

from limner.diffusion.levels import Levels
from limner.diffusion.schedules import SCHEDULES, section, sigmas
from tests.unit.diffusion.recorded import LEVELS as KINDS
from tests.unit.diffusion.recorded import SCHEDULED as TRUTH
from tests.unit.diffusion.recorded import passed

LEVELS = KINDS["sd15_eps"]
RUNS = [
    (kind, schedule, run)
    for kind in KINDS
    for schedule in SCHEDULES
    for run in TRUTH[kind]["schedules"][schedule]
    if (schedule, run) != ("kl_optimal", "steps_1")  # NaN in the recording
]


def test_every_recorded_kind_of_model_is_here() -> None:
    assert list(KINDS) == list(TRUTH)


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_of_a_model_is_the_recorded_one(kind: str) -> None:
    levels, truth = KINDS[kind], TRUTH[kind]
    assert len(levels) == truth["table_rows"]
    assert levels.table[:5].tolist() == pytest.approx(truth["table_first5"], rel=1e-6)
    assert levels.table[-5:].tolist() == pytest.approx(truth["table_last5"], rel=1e-6)
    assert (levels.low, levels.high) == pytest.approx((truth["sigma_min"], truth["sigma_max"]), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_level_finds_its_timestep(kind: str) -> None:
    for sigma, timestep in TRUTH[kind]["timestep_of_sigma"].items():  # the levels are recorded with six digits
        found = KINDS[kind].timestep(torch.tensor([float(sigma)])).item()
        assert found == pytest.approx(timestep, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_timestep_finds_its_level_again(kind: str) -> None:
    levels = KINDS[kind]
    again = levels.sigma(levels.timestep(levels.table))
    assert torch.allclose(again, shifted_twice(levels), rtol=1e-3)


def shifted_twice(levels: Levels) -> torch.Tensor:
    """The recorded way from level to timestep and back: a straight path's shift is not undone on the way."""
    shift = getattr(levels, "shift", 1.0)
    return shift * levels.table / (1 + (shift - 1) * levels.table)


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_the_way_down_finds_its_level(kind: str) -> None:
    for part, sigma in TRUTH[kind]["percent_to_sigma"].items():
        assert KINDS[kind].at(float(part)) == pytest.approx(sigma, rel=1e-6)


@pytest.mark.parametrize(("kind", "schedule", "run"), RUNS)
def test_a_schedule_passes_the_recorded_levels(kind: str, schedule: str, run: str) -> None:
    """Whole ones; the lower half of one twice as long; one without its last level above zero."""
    assert passed(kind, schedule, run) == pytest.approx(TRUTH[kind]["schedules"][schedule][run], rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_falls_to_zero_for_any_number_of_steps(kind: str, name: str) -> None:
    for steps in (1, 2, 3, 999, 1000, 2500):
        levels = sigmas(name, KINDS[kind], steps)
        assert levels.isfinite().all()
        assert levels[-1] == 0
        assert (levels.diff() <= 1e-6 * levels[:-1]).all()


def test_nothing_to_denoise_is_an_empty_schedule() -> None:
    assert len(sigmas("normal", LEVELS, 20, denoise=0.0)) == 0


FIVE = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])


def test_a_section_of_a_schedule_starts_and_ends_where_it_is_told() -> None:
    assert section(FIVE).tolist() == FIVE.tolist()
    assert section(FIVE, 1, 3, leftover=True).tolist() == [4.0, 3.0, 2.0]
    assert section(FIVE, 3).tolist() == [2.0, 1.0, 0.0]


def test_a_section_without_leftover_noise_takes_its_last_step_down_to_zero() -> None:
    assert section(FIVE, 1, 3).tolist() == [4.0, 3.0, 0.0]
    assert FIVE[3] == 2.0


def test_a_section_beyond_the_end_is_the_rest_or_nothing() -> None:
    assert section(FIVE, 0, 10000).tolist() == FIVE.tolist()
    assert section(FIVE, 2, 10000, leftover=True).tolist() == [3.0, 2.0, 1.0, 0.0]
    assert len(section(FIVE, 5)) == 0
    assert len(section(FIVE, 3, 3)) == 0
    assert len(section(FIVE, 4, 2)) == 0
    assert len(section(torch.empty(0), 0, 3)) == 0
