import json
from pathlib import Path

import pytest
import torch

from limner.diffusion import formats
from limner.diffusion.denoiser import Epsilon
from limner.diffusion.latents import LatentFormat, empty
from limner.diffusion.levels import scaled_linear
from limner.diffusion.samplers import SAMPLERS
from limner.diffusion.sampling import Walk, fit_mask
from limner.diffusion.schedules import sigmas
from limner.errors import UnfitInput
from tests.unit.diffusion.pictures import Normal

SD = LatentFormat(channels=4, stride=8, scale=0.18215)
WIDE = LatentFormat(channels=16, stride=8, scale=0.3611)
LEVELS = scaled_linear(0.00085, 0.012, steps=1000)


def test_an_empty_latent_takes_the_channels_of_the_model() -> None:
    assert WIDE.fit(empty(64, 32, 3)["samples"]).shape == (3, 16, 4, 8)


def test_a_latent_of_another_family_is_refused() -> None:
    with pytest.raises(UnfitInput, match="4 channels, the model works on 16"):
        WIDE.fit(torch.ones(1, 4, 8, 8))


def test_a_latent_without_four_dimensions_is_refused() -> None:
    with pytest.raises(UnfitInput, match=r"4 dimensions \(batch, channels, height, width\), not 5"):
        SD.fit(torch.ones(1, 4, 2, 8, 8))


def test_into_the_network_and_back_changes_nothing() -> None:
    samples = torch.randn(1, 4, 8, 8)
    assert torch.allclose(SD.out_of_network(SD.into_network(samples)), samples)


def test_colours_are_one_pixel_a_place() -> None:
    seen = LatentFormat(channels=2, stride=8, scale=1, rgb=((1.0, 0.0, 0.0), (0.0, -1.0, 0.0)))
    assert seen.colours(torch.ones(1, 2, 3, 5))[0, 0, 0].tolist() == [255, 0, 127]
    assert seen.colours(torch.ones(1, 2, 3, 5)).shape == (1, 3, 5, 3)


STOP_ABOVE_ZERO = {"dpm_fast", "dpm_adaptive", "uni_pc", "uni_pc_bh2"}
"""They leave what little noise is there at the lowest level."""


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_the_mask_keeps_comes_back_unchanged(name: str) -> None:
    latent, mask = torch.randn(2, 4, 8, 8), torch.zeros(64, 64)
    mask[:, 32:] = 1
    walk = Walk(
        prediction=Epsilon(LEVELS), sampler=SAMPLERS[name], sigmas=sigmas("karras", LEVELS, 6), seed=7, mask=mask
    )
    painted = walk.run(Normal(torch.full_like(latent, 3.0), 1.0), latent)
    left = 5 * LEVELS.low if name in STOP_ABOVE_ZERO else 1e-5
    assert torch.allclose(painted[..., :3], latent[..., :3], atol=left)
    assert ((painted[..., 5:] - latent[..., 5:]).abs() > 0.1).float().mean() > 0.9


def test_masks_of_any_batch_are_fitted_to_the_latent() -> None:
    latent = torch.zeros(3, 4, 8, 8)
    assert fit_mask(torch.ones(16, 16), latent).shape == (1, 1, 8, 8)
    assert fit_mask(torch.ones(2, 16, 16), latent).shape == (3, 1, 8, 8)


RECORDED = json.loads((Path(__file__).parents[2] / "data/fixtures/latent_formats.json").read_text())["formats"]
FORMATS = {each.name: each for each in vars(formats).values() if isinstance(each, LatentFormat)}
CALLED = {
    "SD15": "sd15", "SDXL": "sdxl", "SDXL_Playground_2_5": "playground_2_5", "SD_X4": "sd_x4", "SD3": "sd3",
    "Flux": "flux", "SC_Prior": "cascade_c", "SC_B": "cascade_b", "StableAudio1": "stable_audio",
    "ACEAudio": "ace_audio", "Mochi": "mochi", "LTXV": "ltxv", "HunyuanVideo": "hunyuan_video",
    "HunyuanImage21": "hunyuan_image_21", "HunyuanImage21Refiner": "hunyuan_image_21_refiner",
    "Cosmos1CV8x8x8": "cosmos_1", "Wan21": "wan_21", "Wan22": "wan_22", "Hunyuan3Dv2": "hunyuan_3d_2",
    "Hunyuan3Dv2_1": "hunyuan_3d_21", "Hunyuan3Dv2mini": "hunyuan_3d_2_mini", "ChromaRadiance": "pixels",
}  # fmt: skip


def test_every_recorded_format_is_there() -> None:
    assert set(CALLED) == set(RECORDED)
    assert set(CALLED.values()) == set(FORMATS)


@pytest.mark.parametrize("recorded", RECORDED)
def test_a_latent_space_is_as_recorded(recorded: str) -> None:
    facts, format_ = RECORDED[recorded], FORMATS[CALLED[recorded]]
    half = torch.full((1, format_.channels, *[2] * format_.dimensions), 0.5)
    assert (format_.channels, format_.dimensions) == (facts["latent_channels"], facts["latent_dimensions"])
    assert float(format_.into_network(half)[0, 0].flatten()[0]) == pytest.approx(facts["process_in_of_0.5"], rel=1e-5)
    assert float(format_.out_of_network(half)[0, 0].flatten()[0]) == pytest.approx(
        facts["process_out_of_0.5"], rel=1e-5
    )
    assert torch.allclose(format_.out_of_network(format_.into_network(half)), half, atol=1e-6)
    assert [list(row) for row in format_.rgb] == (facts.get("latent_rgb_factors") or [])
    assert list(format_.rgb_bias) == (facts.get("latent_rgb_factors_bias") or [0, 0, 0])
    assert f"{format_.tiny}_decoder" == (facts["taesd_decoder_name"] or "_decoder")


def test_an_empty_latent_becomes_one_frame_for_a_video_model() -> None:
    assert formats.HUNYUAN_VIDEO.fit(empty(64, 32, 2)["samples"]).shape == (2, 16, 1, 4, 8)
