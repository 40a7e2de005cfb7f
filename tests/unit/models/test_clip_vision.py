from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from limner.errors import ModelFileError, UnfitInput
from limner.models.clip_vision import CLIP_MEAN, CLIP_STD, ClipVision, load_clip_vision, prepared
from limner.models.device import Devices
from limner.models.style import load_style_model
from limner.models.weights import open_weights
from tests.support.tiny.vision import (
    clip_vision,
    redux,
    save_clip_vision,
    save_redux,
    save_siglip,
    save_style,
    siglip,
    style_adapter,
)

CPU = Devices(device=torch.device("cpu"), half=None)


def load(path: Path) -> ClipVision:
    return load_clip_vision(open_weights(path), CPU)


def pictures(count: int = 2, height: int = 40, width: int = 64) -> torch.Tensor:
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layout", ["transformers", "OpenCLIP"])
def test_pictures_are_seen_as_transformers_sees_them(layout: str, tmp_path: Path) -> None:
    vision = load(save_clip_vision(tmp_path / "v.safetensors", layout=layout, projection=48))
    assert vision.image_size == 28
    seen = vision.encode_image(pictures())
    wanted = clip_vision(48)(prepared(pictures(), 28, CLIP_MEAN, CLIP_STD), output_hidden_states=True)
    torch.testing.assert_close(seen.image_embeds, wanted.image_embeds)
    torch.testing.assert_close(seen.last_hidden_state, wanted.last_hidden_state)
    torch.testing.assert_close(seen["penultimate_hidden_states"], wanted.hidden_states[2])
    assert seen.image_embeds.shape == (2, 48)
    assert seen.last_hidden_state.shape == (2, 17, 64)
    last = clip_vision(48).vision_model.encoder.layers[2](seen.penultimate_hidden_states, None)
    torch.testing.assert_close(last, seen.last_hidden_state)


def test_siglip_sees_too(tmp_path: Path) -> None:
    vision = load(save_siglip(tmp_path / "v.safetensors"))
    seen = vision.encode_image(pictures())
    wanted = siglip()(prepared(pictures(), 28, (0.5,) * 3, (0.5,) * 3))
    torch.testing.assert_close(seen.last_hidden_state, wanted.last_hidden_state)
    torch.testing.assert_close(seen.image_embeds, wanted.pooler_output)
    assert seen.last_hidden_state.shape == (2, 16, 64)


def test_many_pictures_go_in_parts(tmp_path: Path) -> None:
    vision = load(save_clip_vision(tmp_path / "v.safetensors"))
    many = pictures(20)
    torch.testing.assert_close(
        vision.encode_image(many).image_embeds[17:18], vision.encode_image(many[17:18]).image_embeds
    )


def test_the_middle_square_is_taken_or_all_is_pressed_into_one() -> None:
    zero, one = (0.0,) * 3, (1.0,) * 3
    wide = torch.zeros(1, 28, 84, 3)
    wide[:, :, 28:56] = 1
    middle = prepared(wide, 28, zero, one)
    assert middle.shape == (1, 3, 28, 28)
    assert middle.min() == 1
    whole = prepared(wide, 28, zero, one, crop=False)
    assert whole[..., :8].max() < 0.1
    assert whole[..., 12:16].min() > 0.9
    as_it_is = (torch.rand(1, 28, 28, 3) * 255).round() / 255
    torch.testing.assert_close(
        prepared(as_it_is, 28, CLIP_MEAN, CLIP_STD)[0, 0], (as_it_is[0, ..., 0] - CLIP_MEAN[0]) / CLIP_STD[0]
    )
    fine = torch.full((1, 28, 28, 3), 0.5)
    assert prepared(fine, 28, zero, one).unique().tolist() == pytest.approx([128 / 255])


@pytest.mark.parametrize("shape", [(28, 28, 3), (0, 28, 28, 3), (1, 28, 28, 1)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match=r"takes \(batch, height, width, 3\)"):
        load(save_clip_vision(tmp_path / "v.safetensors")).encode_image(torch.zeros(shape))


def test_files_that_are_none_or_not_whole_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match=r"a.safetensors cannot be used: it holds no CLIP vision model"):
        load(tmp_path / "a.safetensors")
    weights = load_file(save_clip_vision(tmp_path / "b.safetensors"))
    save_file(
        {key: each for key, each in weights.items() if "layers.1.mlp.fc1.bias" not in key}, tmp_path / "b.safetensors"
    )
    with pytest.raises(ModelFileError, match=r"vision model is not complete"):
        load(tmp_path / "b.safetensors")
    save_file({key: each for key, each in weights.items() if "projection" not in key}, tmp_path / "c.safetensors")
    with pytest.raises(ModelFileError, match=r"has no projection"):
        load(tmp_path / "c.safetensors")


def test_a_style_adapter_and_redux_make_tokens_of_what_is_seen(tmp_path: Path) -> None:
    seen = load(save_clip_vision(tmp_path / "v.safetensors")).encode_image(pictures())
    style = load_style_model(save_style(tmp_path / "s.safetensors"), CPU)
    torch.testing.assert_close(style.get_cond(seen), style_adapter()(seen.last_hidden_state))
    assert style.get_cond(seen).shape == (2, 4, 64)
    tokens = load_style_model(save_redux(tmp_path / "r.safetensors"), CPU).get_cond(seen)
    network = redux()
    wanted = network.redux_down(torch.nn.functional.silu(network.redux_up(seen.last_hidden_state)))
    torch.testing.assert_close(tokens, wanted)
    assert tokens.shape == (2, 17, 96)


def test_a_style_model_for_another_vision_model_or_none_at_all_is_refused(tmp_path: Path) -> None:
    seen = load(save_clip_vision(tmp_path / "v.safetensors")).encode_image(pictures())
    seen.last_hidden_state = seen.last_hidden_state[..., :32]
    with pytest.raises(UnfitInput, match=r"a CLIP vision model of width 64 sees, and got 32"):
        load_style_model(save_style(tmp_path / "s.safetensors"), CPU).get_cond(seen)
    with pytest.raises(ModelFileError, match=r"v.safetensors cannot be used: it is no style model"):
        load_style_model(tmp_path / "v.safetensors", CPU)
