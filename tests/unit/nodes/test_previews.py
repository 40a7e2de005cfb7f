import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from PIL import Image as Pictures
from safetensors.torch import save_file
from torch import Tensor

from limner.diffusion.latents import LatentFormat
from limner.models.device import Devices
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.nodes.sampling.previews import previewer
from tests.unit.nodes.contexts import Run, run_in

SD = LatentFormat(channels=4, stride=8, scale=1.0, tiny="taesd", rgb=((1.0, 0.0, 0.0),) * 4)


def small_vae() -> AutoencoderTiny:
    torch.manual_seed(0)
    return AutoencoderTiny().eval()


def save(root: Path, name: str = "taesd_decoder") -> AutoencoderTiny:
    """The way out alone, under the names that its files have."""
    network = small_vae()
    weights = {}
    for key, weight in network.decoder.state_dict().items():
        _, number, *rest = key.split(".")
        weights[".".join((str(int(number) + 1), *rest))] = weight
    (root / "vae_approx").mkdir(parents=True, exist_ok=True)
    save_file(weights, root / f"vae_approx/{name}.safetensors")
    return network


def run_with(root: Path) -> Run:
    library = ModelLibrary(ModelFolders([root]), Devices(device=torch.device("cpu"), half=None))
    return run_in(root, services={ModelLibrary: library}, previews=True)


def shown(run: Run, clean: Tensor, latents: LatentFormat = SD) -> Any:
    told = previewer(run.ctx, latents)(clean)
    if told is None:
        return None
    kind, data = told
    assert kind == "image/jpeg"
    return Pictures.open(io.BytesIO(data))


def test_a_small_vae_shows_the_first_item_in_full(tmp_path: Path) -> None:
    network, clean = save(tmp_path), torch.randn(2, 4, 8, 6)
    picture = shown(run_with(tmp_path), clean)
    assert picture.size == (384, 512)
    with torch.no_grad():
        expected = network.decode(clean[:1]).sample
    pixels = torch.from_numpy(np.array(picture.resize((48, 64), Pictures.Resampling.BOX))).float().reshape(-1, 3)
    wanted = expected.add(1).mul(127.5).clamp(0, 255)[0].movedim(0, -1).reshape(-1, 3)
    assert float((pixels - wanted).abs().mean()) < 8, "but for what JPEG loses"


def test_without_its_file_colours_are_guessed(tmp_path: Path) -> None:
    run = run_with(tmp_path)
    picture = shown(run, torch.full((1, 4, 8, 8), 0.25))
    assert picture.size == (512, 512)
    red, green, blue = picture.getpixel((200, 200))
    assert red > 240
    assert abs(green - 127) < 5
    assert abs(blue - 127) < 5
    assert run.warnings == []


def test_the_file_is_read_once(tmp_path: Path) -> None:
    save(tmp_path)
    run = run_with(tmp_path)
    preview = previewer(run.ctx, SD)
    first = preview(torch.zeros(1, 4, 8, 8))
    (tmp_path / "vae_approx/taesd_decoder.safetensors").unlink()
    assert preview(torch.zeros(1, 4, 8, 8)) == first


@pytest.mark.parametrize(
    ("damage", "what"), [("cut", "cannot be used"), ("other", "it decodes latents of 4 channels, 16 are right")]
)
def test_a_file_that_cannot_be_used_is_told_once_and_left_out(damage: str, what: str, tmp_path: Path) -> None:
    save(tmp_path)
    path = tmp_path / "vae_approx/taesd_decoder.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    wide = LatentFormat(channels=16, stride=8, scale=1.0, tiny="taesd", rgb=((0.1, 0.2, 0.3),) * 16)
    run = run_with(tmp_path)
    latents = SD if damage == "cut" else wide
    preview = previewer(run.ctx, latents)
    for _ in range(2):
        assert preview(torch.zeros(1, latents.channels, 8, 8)) is not None
    (warning,) = run.warnings
    assert what in warning


def test_a_frame_of_a_video_is_shown_by_its_colours_and_sound_not_at_all(tmp_path: Path) -> None:
    save(tmp_path)
    run = run_with(tmp_path)
    assert shown(run, torch.zeros(1, 4, 3, 8, 4)).size == (256, 512)
    assert shown(run, torch.zeros(1, 64, 100)) is None
    assert shown(run, torch.zeros(1, 4, 8, 8), LatentFormat(channels=4, stride=8, scale=1.0)) is None
