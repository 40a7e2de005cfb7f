import json
from pathlib import Path

import numpy as np
import pytest
import torch

from limner.diffusion import noise

TRUTH = json.loads((Path(__file__).parents[2] / "data/fixtures/noise.json").read_text())


@pytest.mark.parametrize("case", TRUTH["cases"], ids=lambda case: f"{case['seed']}-{case['shape']}")
def test_a_seed_gives_the_recorded_noise(case: dict) -> None:
    drawn = noise.initial(int(case["seed"]), torch.zeros(case["shape"]))
    assert drawn.flatten()[:8].tolist() == case["first8"]
    assert drawn.flatten()[-4:].tolist() == case["last4"]
    if case["second_batch_item_first4"]:
        assert drawn[1].flatten()[:4].tolist() == case["second_batch_item_first4"]


@pytest.mark.parametrize("case", TRUTH["batch_index"], ids=lambda case: str(case["batch_index"]))
def test_each_item_gets_the_draw_it_names(case: dict) -> None:
    like = torch.zeros(len(case["batch_index"]), 4, 8, 8)
    drawn = noise.initial(int(case["seed"]), like, case["batch_index"])
    assert [item.flatten()[:4].tolist() for item in drawn] == case["first4_of_each"]


def test_double_precision_draws_other_values() -> None:
    drawn = noise.initial(42, torch.zeros(1, 4, 8, 8, dtype=torch.float64))
    assert drawn.flatten()[:4].tolist() == TRUTH["float64_seed42_first4"]


def test_noise_added_on_the_way_begins_with_the_initial_noise() -> None:
    draw = noise.stream(42, torch.zeros(1, 4, 8, 8))
    assert draw().flatten()[:8].tolist() == TRUTH["ancestral_sampler_seed42"]["first_call_first8"]
    assert draw().flatten()[:8].tolist() == TRUTH["ancestral_sampler_seed42"]["second_call_first8"]


def test_a_brownian_motion_is_the_recorded_one() -> None:
    truth = TRUTH["brownian_sampler_seed42"]
    bridge = noise.Bridge(seed=42, like=torch.zeros(1, 4, 8, 8), low=truth["sigma_min"], high=truth["sigma_max"])
    for step in truth["calls"]:
        drawn = bridge(torch.tensor(step["from"]), torch.tensor(step["to"]))
        assert drawn.flatten()[:8].tolist() == pytest.approx(step["first8"], abs=1e-5)


def test_steps_of_a_brownian_motion_add_up_in_any_order() -> None:
    levels = [torch.tensor(level) for level in (9.0, 5.5, 3.25, 0.5)]
    bridge = noise.Bridge(seed=2**64 - 1, like=torch.zeros(2, 4, 8, 8), low=0.03, high=14.6)

    def walked(now: int, then: int) -> torch.Tensor:
        return bridge(levels[now], levels[then]) * (levels[now] - levels[then]).sqrt()

    parts = walked(2, 3) + walked(0, 1) + walked(1, 2)
    assert torch.allclose(parts, walked(0, 3), atol=1e-5)
    assert torch.equal(bridge(levels[1], levels[0]), -bridge(levels[0], levels[1]))


def test_a_brownian_motion_has_unit_variance_and_independent_steps() -> None:
    bridge = noise.Bridge(seed=3, like=torch.zeros(1, 4, 64, 64), low=0.001, high=1.0)
    steps = [bridge(torch.tensor(now), torch.tensor(then)) for now, then in ((1.0, 0.7), (0.7, 0.2), (0.2, 0.001))]
    shares = np.corrcoef([step.flatten().numpy() for step in steps])
    assert all(float(step.std()) == pytest.approx(1, abs=0.03) for step in steps)
    assert np.abs(shares - np.eye(3)).max() < 0.03


def test_no_way_at_all_is_no_noise() -> None:
    bridge = noise.Bridge(seed=3, like=torch.zeros(1, 4), low=0.5, high=0.5)
    assert bridge(torch.tensor(0.5), torch.tensor(0.5)).tolist() == [[0.0] * 4]
