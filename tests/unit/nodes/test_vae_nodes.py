"""Nodes between pictures, sounds and latents."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limner.errors import UnfitInput
from limner.models.device import Devices
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.models.vae import Vae
from limner.nodes.latent.sound import conditioning_stable_audio, vae_decode_audio, vae_encode_audio
from limner.nodes.latent.vae import grown, vae_decode, vae_decode_tiled, vae_encode_for_inpaint, vae_encode_tiled
from tests.support.tiny import checkpoints as tiny
from tests.unit.nodes.contexts import run_in

CPU = Devices(device=torch.device("cpu"), half=None)


@pytest.fixture
def vae(tmp_path: Path) -> Vae:
    tiny.save_vae(tmp_path / "vae/a.safetensors")
    return ModelLibrary(ModelFolders([tmp_path]), CPU).vae("a.safetensors")


@pytest.fixture
def sounds(tmp_path: Path) -> Vae:
    tiny.save_audio_vae(tmp_path / "vae/s.safetensors")
    return ModelLibrary(ModelFolders([tmp_path]), CPU).vae("s.safetensors")


def test_tiles_are_told_step_by_step(vae: Vae, tmp_path: Path) -> None:
    run = run_in(tmp_path)
    latent = {"samples": torch.randn(1, 4, 16, 8)}
    picture = vae_decode_tiled(run.ctx, samples=latent, vae=vae, tile_size=64, overlap=0)
    assert picture.shape == vae_decode(samples=latent, vae=vae).shape == (1, 128, 64, 3)
    assert [step[:2] for step in run.steps] == [(1, 2), (2, 2)]
    encoded = vae_encode_tiled(run.ctx, pixels=picture, vae=vae, tile_size=64, overlap=0)
    assert encoded["samples"].shape == (1, 4, 16, 8)


def test_the_masked_part_is_grey_and_the_mask_grows(vae: Vae) -> None:
    pixels, mask = torch.rand(2, 67, 64, 4), torch.zeros(1, 67, 64)
    mask[:, 20:30, 20:40] = 0.6
    shown: list[torch.Tensor] = []
    encode = vae.encode
    vae.encode = lambda seen: shown.append(seen) or encode(seen)  # type: ignore[method-assign,func-returns-value]
    latent = vae_encode_for_inpaint(pixels=pixels, vae=vae, mask=mask, grow_mask_by=6)
    cut = pixels[:, 1:65, :, :3]
    assert shown[0].shape == (2, 64, 64, 3)
    assert bool((shown[0][:, 19:29, 20:40] == 0.5).all())
    assert torch.allclose(shown[0][:, :19], cut[:, :19], atol=1e-6)
    assert latent["samples"].shape == (2, 4, 8, 8)
    noise_mask = latent["noise_mask"]
    assert noise_mask.shape == (1, 1, 64, 64)
    assert noise_mask[0, 0, :, 30].nonzero().flatten().tolist() == list(range(17, 32))
    assert set(noise_mask.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(("pixels", "rows"), [(0, [5]), (1, [5]), (2, [5, 6]), (3, [4, 5, 6]), (6, [3, 4, 5, 6, 7, 8])])
def test_a_mask_grows_by_a_square(pixels: int, rows: list[int]) -> None:
    mask = torch.zeros(1, 1, 12, 12)
    mask[..., 5, 5] = 1
    assert grown(mask, pixels)[0, 0, :, 5].nonzero().flatten().tolist() == rows


@pytest.mark.parametrize("mask", [torch.zeros(0, 8, 8), torch.zeros(5)])
def test_a_mask_without_a_place_is_refused(mask: torch.Tensor, vae: Vae) -> None:
    with pytest.raises(UnfitInput, match="the mask has the shape"):
        vae_encode_for_inpaint(pixels=torch.rand(1, 64, 64, 3), vae=vae, mask=mask)


def test_a_sound_is_brought_to_the_rate_and_the_channels_of_its_vae(sounds: Vae) -> None:
    audio = {"waveform": torch.randn(1, 1, 2205), "sample_rate": 22050}
    latent = vae_encode_audio(audio=audio, vae=sounds)
    assert latent["samples"].shape == (1, 8, 4410 // 8)
    back = vae_decode_audio(samples=latent, vae=sounds)
    assert (back["waveform"].shape, back["sample_rate"]) == ((1, 2, 4410 // 8 * 8), 44100)
    stereo = torch.randn(1, 2, 64)
    both = vae_encode_audio(audio={"waveform": stereo, "sample_rate": 44100}, vae=sounds)
    assert torch.equal(both["samples"], sounds.encode_sound(stereo))


@pytest.mark.parametrize(
    ("shape", "what"), [((1, 3, 64), "a sound with 3 channels"), ((1, 2, 7), "a sound with 2 channels and 7 samples")]
)
def test_sounds_that_cannot_be_encoded_are_refused(shape: tuple[int, ...], what: str, sounds: Vae) -> None:
    with pytest.raises(UnfitInput, match=what):
        vae_encode_audio(audio={"waveform": torch.zeros(shape), "sample_rate": 44100}, vae=sounds)


def test_pictures_and_sounds_are_not_mixed_up(vae: Vae, sounds: Vae) -> None:
    with pytest.raises(UnfitInput, match="is no VAE for sound"):
        vae_encode_audio(audio={"waveform": torch.zeros(1, 2, 64), "sample_rate": 44100}, vae=vae)
    with pytest.raises(UnfitInput, match="is no VAE for sound"):
        vae_decode_audio(samples={"samples": torch.zeros(1, 4, 8, 8)}, vae=vae)
    with pytest.raises(UnfitInput, match=r"this VAE decodes \(batch, 8, length\)"):
        vae_decode(samples={"samples": torch.zeros(1, 4, 8, 8)}, vae=sounds)


def test_the_length_of_a_sound_is_told_to_both_conditionings() -> None:
    text = torch.zeros(1, 4, 8)
    positive, negative = conditioning_stable_audio(
        positive=[(text, {"a": 1})], negative=[(text, {})], seconds_start=2.0, seconds_total=9.0
    )
    assert positive[0][1] == {"a": 1, "seconds_start": 2.0, "seconds_total": 9.0}
    assert negative[0][1] == {"seconds_start": 2.0, "seconds_total": 9.0}
