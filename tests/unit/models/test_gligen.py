from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from limner.errors import ModelFileError, UnfitInput
from limner.models import unet
from limner.models.device import Devices
from limner.models.gligen import MOST_BOXES, load_gligen
from limner.models.residency import use
from tests.support.tiny import checkpoints, layout
from tests.support.tiny.gligen import grounding, save_gligen

CPU = Devices(device=torch.device("cpu"), half=None)
X, TIME, TEXT = torch.randn(2, 4, 8, 16), torch.full((2,), 300), torch.randn(2, 7, 64)


def gated() -> Any:
    """diffusers' own GLIGEN network, with the weights of the tiny one."""
    plain = layout.networks(checkpoints.SD15).unet
    network = UNet2DConditionModel(**{**plain.config, "attention_type": "gated"}).eval().requires_grad_(False)
    network.load_state_dict(plain.state_dict(), strict=False)
    made = grounding()
    network.position_net = made.position_net
    blocks = [
        network.down_blocks[0].attentions[0],
        network.mid_block.attentions[0],
        *network.up_blocks[1].attentions,
    ]
    for block, fuser in zip(blocks, made.fusers, strict=True):
        block.transformer_blocks[0].fuser = fuser
    return network


def walked(patch: Any) -> Tensor:
    patches = {"patches": {"middle_patch": [patch]}} if patch else {}
    with torch.inference_mode():
        return unet.run(layout.networks(checkpoints.SD15).unet, X, TIME, TEXT, transformer_options=patches)


def test_boxes_steer_a_unet_as_in_diffusers(tmp_path: Path) -> None:
    model = load_gligen(save_gligen(tmp_path / "g.safetensors"), CPU)
    phrases = torch.randn(2, 64)
    positions = [(phrases[:1], 4, 8, 2, 6), (phrases[1:], 8, 2, 0, 14)]
    boxes, told, filled = torch.zeros(2, MOST_BOXES, 4), torch.zeros(2, MOST_BOXES, 64), torch.zeros(2, MOST_BOXES)
    boxes[:, 0] = torch.tensor([6 / 16, 2 / 8, 14 / 16, 6 / 8])
    boxes[:, 1] = torch.tensor([14 / 16, 0, 1, 1])
    told[:, :2], filled[:, :2] = phrases, 1
    with torch.inference_mode(), use(model):
        ours = walked(model.model.set_position(X.shape, positions, CPU.device))
        empty = walked(model.model.set_empty(X.shape, CPU.device))
        network = gated()
        kwargs = {"gligen": {"boxes": boxes, "positive_embeddings": told, "masks": filled}}
        wanted = network(X, TIME, TEXT, cross_attention_kwargs=kwargs).sample
        kwargs["gligen"]["masks"] = torch.zeros_like(filled)
        nothing = network(X, TIME, TEXT, cross_attention_kwargs=kwargs).sample
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(empty, nothing, rtol=1e-4, atol=1e-5)
    assert (ours - empty).abs().max() > 1e-4
    assert (ours - walked(None)).abs().max() > 1e-3


def test_too_many_boxes_other_phrases_and_other_models_are_refused(tmp_path: Path) -> None:
    model = load_gligen(save_gligen(tmp_path / "g.safetensors"), CPU).model
    box = (torch.zeros(1, 64), 1, 1, 0, 0)
    with pytest.raises(UnfitInput, match="30 boxes at most, not 31"):
        model.set_position(X.shape, [box] * 31, CPU.device)
    with pytest.raises(UnfitInput, match="phrases of width 64, not 32"):
        model.set_position(X.shape, [(torch.zeros(1, 32), *box[1:])], CPU.device)
    patch = model.set_position(X.shape, [box], CPU.device)
    for x, place in ((torch.zeros(2, 4, 128), 0), (torch.zeros(2, 4, 64), 4)):
        with pytest.raises(UnfitInput, match="another family of models"):
            patch(x, {"transformer_index": place})


def test_what_is_no_such_model_or_not_whole_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match=r"a.safetensors cannot be used: it is no GLIGEN model"):
        load_gligen(tmp_path / "a.safetensors", CPU)
    weights = load_file(save_gligen(tmp_path / "b.safetensors"))
    del weights["middle_block.1.transformer_blocks.0.fuser.norm1.bias"]
    save_file(weights, tmp_path / "b.safetensors")
    with pytest.raises(ModelFileError, match=r"GLIGEN model is not complete"):
        load_gligen(tmp_path / "b.safetensors", CPU)
