import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from limner.errors import ModelFileError, OutOfMemory, UnfitInput
from limner.models.upscale.architectures import normalize, spandrel
from limner.models.upscale.model import UpscaleModel, load_upscale_model
from tests.support.tiny.upscale import save_upscale_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> UpscaleModel:
    return load_upscale_model(save_upscale_model(tmp_path_factory.mktemp("up") / "tiny.safetensors"), CPU)


def test_a_picture_is_what_the_network_makes_of_it(model: UpscaleModel) -> None:
    picture = torch.rand(2, 24, 40, 3)
    with torch.inference_mode():
        whole = model.model(picture.movedim(-1, 1)).clamp(0, 1).movedim(1, -1)
    assert whole.shape == (2, 48, 80, 3)
    assert whole.std() > 0
    torch.testing.assert_close(model.upscale(picture), whole)


def test_transparency_is_left_out(model: UpscaleModel) -> None:
    picture = torch.rand(1, 16, 16, 4)
    assert torch.equal(model.upscale(picture), model.upscale(picture[..., :3]))


def test_where_memory_ends_tiles_are_halved(model: UpscaleModel, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = torch.rand(1, 160, 300, 3)
    seen: list[int] = []

    def small_ones_alone(_self: UpscaleModel, pixels: Tensor) -> Tensor:
        seen.append(pixels.shape[-1])
        if pixels.shape[-1] > 128:
            raise torch.OutOfMemoryError
        return pixels.repeat_interleave(2, 2).repeat_interleave(2, 3)

    monkeypatch.setattr(UpscaleModel, "__call__", small_ones_alone)
    torch.testing.assert_close(model.upscale(picture), picture.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert seen[:2] == [300, 256]
    assert max(seen[2:]) == 128


def test_no_room_for_the_smallest_tile_is_out_of_memory(model: UpscaleModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_self: UpscaleModel, _pixels: Tensor) -> Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(UpscaleModel, "__call__", never)
    with pytest.raises(OutOfMemory, match=r"tiny.safetensors has no room even for tiles of 128 pixels"):
        model.upscale(torch.rand(1, 16, 16, 3))


@pytest.mark.parametrize("shape", [(16, 16, 3), (1, 16, 16, 1), (0, 16, 16, 3), (1, 0, 16, 3)])
def test_what_is_no_picture_is_refused(model: UpscaleModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(UnfitInput, match="takes \\(batch, height, width, 3\\)"):
        model.upscale(torch.zeros(shape))


def test_unknown_and_cut_files_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match=r"a.safetensors cannot be used: it is no upscale model"):
        load_upscale_model(tmp_path / "a.safetensors", CPU)
    weights = spandrel().ModelLoader().load_state_dict_from_file(save_upscale_model(tmp_path / "b.safetensors"))
    del weights["model.1.sub.0.RDB2.conv3.0.weight" if "model.0.weight" in weights else "body.0.rdb2.conv3.weight"]
    save_file(weights, tmp_path / "b.safetensors")
    with pytest.raises(ModelFileError, match=r"b.safetensors cannot be used: its weights are not whole"):
        load_upscale_model(tmp_path / "b.safetensors", CPU)


def test_a_network_for_other_channels_is_refused(tmp_path: Path) -> None:
    spandrel()
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

    save_file(RRDBNet(in_nc=1, out_nc=1, num_filters=8, num_blocks=1, scale=2).state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match="from 1 to 1 channels"):
        load_upscale_model(tmp_path / "a.safetensors", CPU)


def test_the_stand_in_is_gone_once_the_architectures_are_there() -> None:
    library = spandrel()
    known = {each.architecture.id for each in library.MAIN_REGISTRY.architectures()}
    assert {"ESRGAN", "SwinIR", "HAT", "RestoreFormer", "LaMa"} <= known
    assert "torchvision" not in sys.modules


def test_the_stand_in_normalizes() -> None:
    x = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(normalize(x, [0.5, 0.5, 0.5], [0.5, 0.25, 1.0])[:, 1], (x[:, 1] - 0.5) * 4)
    torch.testing.assert_close(normalize(x, [0.5, 0.5, 0.5], [0.5, 0.25, 1.0])[:, 2], x[:, 2] - 0.5)
