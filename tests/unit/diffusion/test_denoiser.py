import pytest
import torch

from limner.diffusion.denoiser import Epsilon, Prediction, Velocity
from limner.diffusion.levels import scaled_linear

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
