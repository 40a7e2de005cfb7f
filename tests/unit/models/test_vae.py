"""VAEs: of files in either layout, whole and in tiles, of pictures and of sound; and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from torch import Tensor, nn

from limner.diffusion import formats
from limner.errors import ModelFileError, OutOfMemory, UnfitInput
from limner.models.device import Devices
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.models.vae import Vae
from tests.support.tiny import checkpoints as tiny
from tests.support.tiny import layout

CPU = Devices(device=torch.device("cpu"), half=None)


def library(root: Path) -> ModelLibrary:
    return ModelLibrary(ModelFolders([root]), CPU)


@pytest.fixture
def vae(tmp_path: Path) -> Vae:
    tiny.save_vae(tmp_path / "vae/a.safetensors")
    return library(tmp_path).vae("a.safetensors")


@pytest.mark.parametrize("form", ["", "first_stage_model.", "diffusers"])
@pytest.mark.parametrize("size", [tiny.SD15, tiny.FLUX_VAE, layout.Size(vae_widths=(32, 64), layers=1)])
def test_a_vae_in_a_file_of_its_own_is_the_one_that_was_saved(size: layout.Size, form: str, tmp_path: Path) -> None:
    told = {"diffusers": True} if form == "diffusers" else {"prefix": form}
    tiny.save_vae(tmp_path / "vae/a.safetensors", size, **told)
    vae, made = library(tmp_path).vae("a.safetensors"), layout.networks(size).vae.half().float()
    stride = 2 ** (len(size.vae_widths) - 1)
    assert (vae.latents.channels, vae.latents.stride) == (size.latent_channels, stride)
    samples, pixels = torch.randn(2, size.latent_channels, 4, 6), torch.rand(2, 4 * stride, 6 * stride, 3)
    with torch.inference_mode():
        right = (made.decode(samples).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1)
        assert torch.allclose(vae.decode(samples), right, atol=1e-5)
        latent = made.encode(pixels.movedim(-1, 1) * 2 - 1).latent_dist.mode()
        assert torch.allclose(vae.encode(pixels), latent, atol=1e-4)


def test_every_weight_has_its_original_key_and_shape(tmp_path: Path) -> None:
    """As a saved checkpoint needs them: attention is a convolution there."""
    size = layout.Size(vae_widths=(32, 64), layers=1)
    tiny.save_vae(tmp_path / "vae/a.safetensors", size)
    vae = library(tmp_path).vae("a.safetensors")
    originals = dict(layout.vae_keys(size, layout.networks(size).vae.state_dict()))
    assert set(vae.patcher.keys) == set(originals)
    for key, weight in originals.items():
        assert torch.equal(vae.patcher.weight(key).float(), weight.half().float()), key


class Smooth(nn.Module):
    """In the place of a VAE's network: 8 pixels for a place, each of its first three channels' value."""

    def decode(self, samples: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (samples[:, :3].repeat_interleave(8, dim=2).repeat_interleave(8, dim=3),)

    def encode(self, x: Tensor, return_dict: bool) -> tuple[SimpleNamespace]:
        latent = nn.functional.pad(nn.functional.avg_pool2d(x, 8), (0, 0, 0, 0, 0, 1))
        return (SimpleNamespace(mode=lambda: latent),)


def test_tiles_give_what_the_whole_gives_where_no_place_looks_at_another(vae: Vae) -> None:
    vae.patcher.module = Smooth()
    samples = torch.rand(2, 4, 23, 31)
    whole = vae.decode(samples)
    assert whole.shape == (2, 184, 248, 3)
    for tile, overlap in ((8, 2), (16, 0), (64, 8), (5, 4)):
        assert torch.allclose(vae.decode_tiled(samples, tile, tile, overlap), whole, atol=1e-6)
    pixels, told = torch.rand(2, 130, 200, 3), list[tuple[int, int]]()
    encoded = vae.encode(pixels)
    for edge, overlap in ((64, 16), (100, 30), (512, 64)):
        tiled = vae.encode_tiled(pixels, edge, edge, overlap, on_tile=lambda done, of: told.append((done, of)))
        assert torch.allclose(tiled, encoded, atol=1e-6)
    assert told[:3] == [(1, 24), (2, 24), (3, 24)]
    assert told[-1] == (2, 2)


def fail_above(edge: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def check(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].shape[-1] > edge:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")

    return check


def test_a_picture_too_large_for_the_memory_goes_in_tiles(vae: Vae) -> None:
    samples, pixels = torch.randn(1, 4, 80, 8), torch.rand(1, 64, 640, 3)
    sides = {name: vae.network.get_submodule(name) for name in ("decoder", "encoder")}
    sides["decoder"].register_forward_pre_hook(fail_above(64))
    sides["encoder"].register_forward_pre_hook(fail_above(512))
    assert vae.decode(samples.transpose(2, 3)).shape == (1, 64, 640, 3)
    assert vae.encode(pixels).shape == (1, 4, 8, 80)


def test_where_tiles_are_too_large_too_it_fails_and_the_next_picture_is_fine(vae: Vae) -> None:
    hook = vae.network.get_submodule("decoder").register_forward_pre_hook(fail_above(0))
    with pytest.raises(OutOfMemory, match="decoding 1 of 64x64, also after everything"):
        vae.decode(torch.randn(1, 4, 8, 8))
    hook.remove()
    assert vae.decode(torch.randn(1, 4, 8, 8)).shape == (1, 64, 64, 3)


@pytest.mark.parametrize("shape", [(1, 16, 8, 8), (1, 4, 8), (1, 4, 1, 8, 8), (0, 4, 8, 8)])
def test_a_latent_of_another_space_is_refused(shape: tuple[int, ...], vae: Vae) -> None:
    for decode in (vae.decode, vae.decode_tiled):
        with pytest.raises(UnfitInput, match=r"use the VAE of the model that made the latent, not a\.safetensors"):
            decode(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 7, 64, 3), (1, 64, 64, 2), (0, 64, 64, 3), (64, 64, 3)])
def test_pictures_that_cannot_be_encoded_are_refused(shape: tuple[int, ...], vae: Vae) -> None:
    with pytest.raises(UnfitInput):
        vae.encode(torch.zeros(shape))


def test_pixel_space_changes_nothing(tmp_path: Path) -> None:
    vae, pixels = library(tmp_path).vae("pixel_space"), torch.rand(2, 5, 7, 3)
    latent = vae.encode(pixels)
    assert latent.shape == (2, 3, 5, 7)
    assert torch.allclose(vae.decode(latent), pixels, atol=1e-6)


@pytest.mark.parametrize("prefix", ["", "pretransform.model."])
def test_the_vae_of_stable_audio_is_the_one_that_was_saved(prefix: str, tmp_path: Path) -> None:
    tiny.save_audio_vae(tmp_path / "vae/a.safetensors", prefix=prefix)
    vae, made = library(tmp_path).vae("a.safetensors"), tiny.audio_vae().half().float()
    assert (vae.sample_rate, vae.latents.stride, vae.latents.channels) == (44100, 8, 8)
    sound, samples = torch.randn(2, 2, 64), torch.randn(2, 8, 8)
    with torch.inference_mode():
        assert torch.allclose(vae.decode_sound(samples), made.decode(samples).sample, atol=1e-4)
        assert torch.allclose(vae.encode_sound(sound), made.encode(sound).latent_dist.mode(), atol=1e-4)
    with pytest.raises(UnfitInput, match="is no VAE for pictures"):
        vae.encode(torch.rand(1, 64, 64, 3))
    with pytest.raises(UnfitInput, match=r"this VAE decodes \(batch, 8, length\)"):
        vae.decode(torch.zeros(1, 4, 8, 8))


def test_a_vae_for_pictures_takes_no_sound(vae: Vae) -> None:
    with pytest.raises(UnfitInput, match="is no VAE for sound"):
        vae.encode_sound(torch.zeros(1, 2, 64))
    with pytest.raises(UnfitInput, match="is no VAE for sound"):
        vae.decode_sound(torch.zeros(1, 64, 8))


def save_small(root: Path, name: str, channels: int) -> AutoencoderTiny:
    """A small VAE in the two files of its original layout, where the way out begins with a clamp."""
    torch.manual_seed(0)
    made = AutoencoderTiny(latent_channels=channels).eval()
    for side, moved in (("encoder", 0), ("decoder", 1)):
        weights = {}
        for key, weight in made.get_submodule(side).state_dict().items():
            _, number, *rest = key.split(".")
            weights[".".join((str(int(number) + moved), *rest))] = weight
        tiny.save(root / f"vae_approx/{name}_{side}.safetensors", weights)
    return made.half().float()


@pytest.mark.parametrize(("name", "space"), [("taesd", formats.SD15), ("taef1", formats.FLUX)])
def test_small_vaes_speak_in_the_units_of_the_large_ones(
    name: str, space: formats.LatentFormat, tmp_path: Path
) -> None:
    made = save_small(tmp_path, name, space.channels)
    models = library(tmp_path)
    assert models.lists()["vae"] == [name]
    vae, samples, pixels = models.vae(name), torch.randn(1, space.channels, 4, 4), torch.rand(1, 32, 32, 3)
    with torch.inference_mode():
        right = made.decode(space.into_network(samples)).sample.clamp(-1, 1) / 2 + 0.5
        assert torch.allclose(vae.decode(samples), right.movedim(1, -1), atol=1e-4)
        latent = space.out_of_network(made.encode(pixels.movedim(-1, 1) * 2 - 1).latents)
        assert torch.allclose(vae.encode(pixels), latent, atol=1e-3)


def test_a_small_vae_of_another_space_is_refused(tmp_path: Path) -> None:
    save_small(tmp_path, "taesd", 16)
    with pytest.raises(ModelFileError, match="latents have 16 channels, 4 are right"):
        library(tmp_path).vae("taesd")


@pytest.mark.parametrize(
    ("weights", "what"),
    [
        ({"model.diffusion_model.x": torch.zeros(1)}, "whole checkpoint; load it with CheckpointLoaderSimple"),
        ({"decoder.conv_in.conv.weight": torch.zeros(1)}, "VAE of a video model"),
        ({"a": torch.zeros(1)}, "nothing in it looks like one"),
        ({"decoder.conv_in.weight": torch.zeros(8, 4, 3, 3)}, "no VAE with an encoder"),
    ],
)
def test_a_file_that_is_no_vae_says_what_it_is(weights: dict[str, Tensor], what: str, tmp_path: Path) -> None:
    tiny.save(tmp_path / "vae/a.safetensors", weights)
    with pytest.raises(ModelFileError, match=what):
        library(tmp_path).vae("a.safetensors")
