import pytest

from limner.diffusion.samplers import SAMPLERS
from tests.unit.diffusion.recorded import SAMPLED, walk


def test_every_sampler_is_held_against_a_recording_and_stands_in_the_recorded_order() -> None:
    assert list(dict.fromkeys(key.rsplit("/", 1)[1] for key in SAMPLED["runs"])) == list(SAMPLERS)


@pytest.mark.parametrize("key", SAMPLED["runs"])
def test_a_sampler_ends_where_the_recorded_one_did(key: str) -> None:
    truth, walked = SAMPLED["runs"][key], walk(key)
    assert walked.error < 1e-4
    assert walked.asked == pytest.approx(truth["sigmas_of_calls"], abs=1e-4)
    assert walked.steps == truth["callback_steps"]
