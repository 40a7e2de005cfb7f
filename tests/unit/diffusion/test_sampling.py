import pytest
import torch
from torch import Tensor

from limner.diffusion import noise
from limner.diffusion.denoiser import Prediction
from limner.diffusion.samplers import SAMPLERS
from limner.diffusion.sampling import Walk, fit_mask
from limner.diffusion.schedules import section, sigmas
from tests.unit.diffusion.pictures import Normal
from tests.unit.diffusion.recorded import PREDICTIONS

EITHER = pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=PREDICTIONS)
LATENT = torch.linspace(-2, 2, 2 * 4 * 8 * 8).reshape(2, 4, 8, 8)


def walk(prediction: Prediction, levels: Tensor, name: str = "euler", **facts: object) -> Walk:
    return Walk(prediction=prediction, sampler=SAMPLERS[name], sigmas=levels, seed=9, **facts)  # type: ignore[arg-type]


@EITHER
@pytest.mark.parametrize("name", ["euler", "heun", "dpm_2"])
def test_two_walks_of_half_the_steps_are_one_of_all(prediction: Prediction, name: str) -> None:
    """The first hands its noise on, the second adds none, as two KSampler (Advanced) do."""
    levels, pictures = sigmas("normal", prediction.levels, 10), Normal(LATENT, 0.7, prediction.path)
    first = walk(prediction, section(levels, 0, 4, leftover=True), name).run(pictures, LATENT)
    second = walk(prediction, section(levels, 4), name, noise=torch.zeros_like(LATENT)).run(pictures, first)
    assert torch.allclose(second, walk(prediction, levels, name).run(pictures, LATENT), atol=1e-5)


@EITHER
def test_a_walk_of_a_part_starts_from_the_latent_under_noise(prediction: Prediction) -> None:
    levels, seen = sigmas("normal", prediction.levels, 10, denoise=0.5), []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(x)
        return x

    walk(prediction, levels).run(denoise, LATENT)
    assert torch.allclose(seen[0], prediction.path.noised(LATENT, noise.initial(9, LATENT), levels[0]))


@EITHER
@pytest.mark.parametrize("name", ["euler", "euler_ancestral", "dpmpp_2m_sde"])
def test_items_that_share_a_draw_of_noise_come_out_the_same(prediction: Prediction, name: str) -> None:
    """As far as the noise of the start goes: what is drawn on the way is drawn for the whole batch."""
    levels, pictures = sigmas("normal", prediction.levels, 4), Normal(torch.zeros_like(LATENT), 0.7, prediction.path)
    seen: list[Tensor] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(x)
        return pictures(x, sigma)

    shared = noise.initial(9, LATENT, [3, 3])
    walk(prediction, levels, name, noise=shared).run(denoise, torch.zeros_like(LATENT))
    assert torch.equal(seen[0][0], seen[0][1])


@EITHER
@pytest.mark.parametrize(("name", "seed"), [("euler", 9), ("ddim", 10)])
def test_what_the_mask_keeps_lies_under_the_noise_of_its_level(prediction: Prediction, name: str, seed: int) -> None:
    levels, mask = sigmas("normal", prediction.levels, 4), torch.zeros(8, 8)
    asked: list[tuple[Tensor, Tensor]] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append((x, sigma))
        return x * 0

    walk(prediction, levels, name, mask=mask).run(denoise, LATENT)
    fill = noise.initial(seed, LATENT)
    assert len(asked) == 4
    assert all(torch.allclose(x, prediction.path.noised(LATENT, fill, sigma), atol=1e-5) for x, sigma in asked)


def test_a_mask_may_change_from_level_to_level() -> None:
    """It keeps everything until half-way, and nothing from there on."""
    prediction = PREDICTIONS["sd15_eps"]
    levels, asked = sigmas("normal", prediction.levels, 4), []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append((x, sigma))
        return x * 0 + 7

    def late(sigma: Tensor, mask: Tensor) -> Tensor:
        return mask * (sigma < levels[1])

    end = walk(prediction, levels, mask=torch.ones(8, 8), mask_at=late).run(denoise, LATENT)
    fill = noise.initial(9, LATENT)
    kept = [torch.allclose(x, prediction.path.noised(LATENT, fill, sigma), atol=1e-4) for x, sigma in asked]
    assert kept == [True, True, False, False]
    assert torch.allclose(end, torch.full_like(end, 7.0))


@pytest.mark.parametrize(
    ("latent", "mask", "fitted"),
    [
        ((2, 4, 8, 8), (5, 16, 16), (2, 1, 8, 8)),
        ((2, 4, 8, 8), (1, 16, 9), (1, 1, 8, 8)),
        ((1, 16, 3, 8, 8), (9, 64, 64), (1, 1, 3, 8, 8)),
        ((2, 16, 3, 8, 8), (2, 1, 1, 16, 16), (2, 1, 3, 8, 8)),
        ((2, 64, 12), (24,), (1, 1, 12)),
    ],
)
def test_masks_are_fitted_to_pictures_video_and_sound(
    latent: tuple[int, ...], mask: tuple[int, ...], fitted: tuple[int, ...]
) -> None:
    made = fit_mask(torch.full(mask, 0.25), torch.zeros(latent))
    assert made.shape == fitted
    assert torch.allclose(made, torch.full(fitted, 0.25))
