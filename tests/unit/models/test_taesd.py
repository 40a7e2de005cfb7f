from dataclasses import replace
from pathlib import Path

import pytest
import torch

from limner.diffusion import formats
from limner.errors import ModelFileError
from limner.models.device import Devices
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.models.taesd import tiny_decoder
from tests.support.tiny.taesd import save_taesd, taesd

CPU = Devices(device=torch.device("cpu"), half=None)


def library(root: Path) -> ModelLibrary:
    return ModelLibrary(ModelFolders([root]), CPU)


@pytest.mark.parametrize(("latents", "channels"), [(formats.SD15, 4), (formats.FLUX, 16)])
def test_a_latent_is_shown_as_diffusers_shows_it(latents: formats.LatentFormat, channels: int, tmp_path: Path) -> None:
    save_taesd(tmp_path / "vae_approx", latents.tiny, channels)
    models = library(tmp_path)
    decoder = tiny_decoder(models, latents)
    assert decoder is not None
    x = torch.randn(1, channels, 4, 6)
    wanted = taesd(channels).decode(x, return_dict=False)[0].add(1).div(2).clamp(0, 1).movedim(1, -1)
    assert wanted.shape == (1, 32, 48, 3)
    assert wanted.std() > 0
    torch.testing.assert_close(decoder(x), wanted)
    assert tiny_decoder(models, latents) is decoder


def test_without_a_file_there_is_none(tmp_path: Path) -> None:
    save_taesd(tmp_path / "vae_approx")
    assert tiny_decoder(library(tmp_path), formats.SDXL) is None
    assert tiny_decoder(library(tmp_path), replace(formats.SD15, tiny="")) is None


def test_one_of_another_space_is_refused(tmp_path: Path) -> None:
    save_taesd(tmp_path / "vae_approx", "taesd", 16)
    with pytest.raises(ModelFileError, match=r"decodes latents of 16 channels, 4 are right"):
        tiny_decoder(library(tmp_path), formats.SD15)
