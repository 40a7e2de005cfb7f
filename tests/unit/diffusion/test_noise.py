import json
from pathlib import Path

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
