import pytest
import torch

from limner.diffusion.denoiser import Edm, Epsilon, Flow, Prediction, Velocity
from limner.diffusion.levels import log_uniform, scaled_linear, straight

LEVELS = scaled_linear(0.00085, 0.012, steps=1000)


@pytest.mark.parametrize("level", [0.03, 1.0, 14.6])
def test_a_perfect_answer_gives_back_the_clean_picture(level: float) -> None:
    """x = clean + sigma * noise. With a = 1 / sqrt(sigma² + 1), v = a * noise - a * sigma * clean."""
    clean, noise, sigma = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), torch.tensor(level)
    x, a = clean + sigma * noise, 1 / (sigma**2 + 1).sqrt()
    answers: list[tuple[Prediction, torch.Tensor]] = [
        (Epsilon(LEVELS), noise),
        (Velocity(LEVELS), a * noise - a * sigma * clean),
    ]
    for prediction, output in answers:
        assert torch.allclose(prediction.clean(x, output, sigma), clean, atol=1e-4)


def test_a_network_sees_unit_variance_at_every_level() -> None:
    for sigma in LEVELS.table[::250]:
        x = torch.randn(64, 4, 8, 8) * (1 + sigma**2).sqrt()
        assert float(Epsilon(LEVELS).network_input(x, sigma).std()) == pytest.approx(1, abs=0.05)


def test_only_a_walk_from_the_top_starts_with_more_noise_than_its_level() -> None:
    noise, latent = torch.ones(1, 4, 2, 2), torch.full((1, 4, 2, 2), 0.5)
    top, lower = LEVELS.table[-1], LEVELS.table[-2]
    assert torch.allclose(Epsilon(LEVELS).start(noise, latent, top), latent + (top**2 + 1).sqrt())
    assert torch.allclose(Epsilon(LEVELS).start(noise, latent, lower), latent + lower)


@pytest.mark.parametrize("level", [0.03, 0.5, 0.99])
def test_a_flow_tells_the_way_from_picture_to_noise(level: float) -> None:
    clean, noise, sigma = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), torch.tensor(level)
    prediction = Flow(straight(3))
    x = prediction.path.noised(clean, noise, sigma)
    assert torch.allclose(x, (1 - level) * clean + level * noise)
    assert torch.allclose(prediction.clean(x, noise - clean, sigma), clean, atol=1e-5)


@pytest.mark.parametrize("level", [0.01, 0.5, 60.0])
def test_an_edm_network_tells_a_mix_of_unit_variance(level: float) -> None:
    """Karras et al. 2022, arXiv:2206.00364, table 1 and appendix B.6: c_in, c_skip and c_out, for pictures of 0.5."""
    sigma, prediction = torch.tensor(level), Edm(log_uniform(0.002, 80))
    clean, noise = 0.5 * torch.randn(64, 4, 8, 8), torch.randn(64, 4, 8, 8)
    x = clean + sigma * noise
    skip, out = 0.25 / (0.25 + sigma**2), sigma * 0.5 / (0.25 + sigma**2).sqrt()
    told = (clean - skip * x) / out
    assert float(told.std()) == pytest.approx(1, abs=0.05)
    assert float(prediction.network_input(x, sigma).std()) == pytest.approx(1, abs=0.05)
    assert torch.allclose(prediction.clean(x, told, sigma), clean, atol=1e-3)


@pytest.mark.parametrize("prediction", [Epsilon(LEVELS), Flow(straight(3))])
def test_a_walk_that_stops_with_noise_left_is_taken_up_where_it_stopped(prediction: Prediction) -> None:
    x, sigma = torch.randn(1, 4, 8, 8), torch.tensor(0.6)
    handed_on = prediction.end(x, sigma)
    assert torch.allclose(prediction.start(torch.zeros_like(x), handed_on, sigma), x, atol=1e-6)
