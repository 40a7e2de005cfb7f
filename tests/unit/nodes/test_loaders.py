"""The nodes that load models, over folders as users have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from limner.diffusion.denoiser import Epsilon, Velocity
from limner.engine.context import RunContext
from limner.errors import ModelFileError
from limner.models.device import Devices
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.nodes.loaders.parts import load_diffusion_model, load_vae
from limner.nodes.loaders.whole import (
    load_checkpoint,
    load_checkpoint_with_config,
    load_diffusers,
    load_unclip_checkpoint,
)
from tests.support.tiny import checkpoints as tiny
from tests.support.tiny import layout
from tests.support.tiny.text_encoders import clip
from tests.unit.nodes.contexts import run_in

CPU = Devices(device=torch.device("cpu"), half=None)


@pytest.fixture
def ctx(tmp_path: Path) -> RunContext:
    return run_in(tmp_path, services={ModelLibrary: ModelLibrary(ModelFolders([tmp_path]), CPU)}).ctx


def test_split_files_give_what_the_whole_checkpoint_gives(ctx: RunContext, tmp_path: Path) -> None:
    tiny.save_sd15(tmp_path / "checkpoints/a.safetensors")
    tiny.save_unet(tmp_path / "diffusion_models/u.safetensors")
    tiny.save_vae(tmp_path / "vae/v.safetensors")
    whole, _, whole_vae = load_checkpoint(ctx, ckpt_name="a.safetensors")
    model = load_diffusion_model(ctx, unet_name="u.safetensors", weight_dtype="default")
    vae = load_vae(ctx, vae_name="v.safetensors")
    key = "diffusion_model.out.2.weight"
    assert torch.equal(model.weight(key), whole.weight(key))
    latent = torch.randn(1, 4, 4, 4)
    assert torch.equal(vae.decode(latent), whole_vae.decode(latent))
    assert load_vae(ctx, vae_name="v.safetensors") is vae


def test_an_unclip_checkpoint_brings_its_vision_model(ctx: RunContext, tmp_path: Path) -> None:
    tiny.save_sd2_unclip(tmp_path / "checkpoints/a.safetensors")
    tiny.save_sd15(tmp_path / "checkpoints/b.safetensors")
    model, _, _, vision = load_unclip_checkpoint(ctx, ckpt_name="a.safetensors")
    seen = vision.encode_image(torch.rand(1, 32, 32, 3))
    assert seen.image_embeds.shape == (1, model.model.adm_channels // 2)
    with pytest.raises(ModelFileError, match="is no unCLIP checkpoint"):
        load_unclip_checkpoint(ctx, ckpt_name="b.safetensors")


@pytest.mark.parametrize(("told", "kind"), [("v", Velocity), ("eps", Epsilon), (None, Epsilon)])
def test_a_configuration_says_what_the_model_predicts(
    told: str | None, kind: type, ctx: RunContext, tmp_path: Path
) -> None:
    tiny.save_sd15(tmp_path / "checkpoints/a.safetensors")
    line = "" if told is None else f"parameterization: {told}"
    config = f"model:\n  params:\n    scale_factor: 0.18215\n    {line}\n    cond_stage_config:\n      params:\n"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/a.yaml").write_text(f"{config}        layer: penultimate\n", encoding="utf-8")
    model, text, _ = load_checkpoint_with_config(ctx, config_name="a.yaml", ckpt_name="a.safetensors")
    plain, plain_text, _ = load_checkpoint(ctx, ckpt_name="a.safetensors")
    assert type(model.model_sampling) is kind
    assert type(plain.model_sampling) is Epsilon
    assert text.layer_idx == -2
    assert plain_text.layer_idx is None


def save_diffusers(folder: Path, kind: str, size: layout.Size, texts: dict[str, str], **scheduler: Any) -> None:
    tiny.save_unet(folder / "unet/diffusion_pytorch_model.safetensors", size, diffusers=True)
    tiny.save_unet(folder / "unet/diffusion_pytorch_model.fp16.safetensors", layout.Size(), diffusers=True)
    tiny.save_vae(folder / "vae/diffusion_pytorch_model.safetensors", size, diffusers=True)
    for place, name in texts.items():
        tiny.save(folder / f"{place}/model.safetensors", clip(name).state_dict())
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler), encoding="utf-8")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind}), encoding="utf-8")


FOLDERS = {
    "sd15": (tiny.SD15, "sd15", {"text_encoder": "clip_l"}, {}, Epsilon),
    "sd2": (tiny.SD2, "sd2", {"text_encoder": "clip_h"}, {"prediction_type": "v_prediction"}, Velocity),
    "sd2 base": (tiny.SD2, "sd2", {"text_encoder": "clip_h"}, {"prediction_type": "epsilon"}, Epsilon),
    "sdxl": (tiny.SDXL, "sdxl", {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}, {}, Epsilon),
    "refiner": (tiny.REFINER, "sdxl_refiner", {"text_encoder_2": "clip_g"}, {}, Epsilon),
}


@pytest.mark.parametrize(("size", "family", "texts", "scheduler", "kind"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_of_diffusers_gives_its_parts(
    size: layout.Size,
    family: str,
    texts: dict[str, str],
    scheduler: dict[str, Any],
    kind: type,
    ctx: RunContext,
    tmp_path: Path,
) -> None:
    save_diffusers(tmp_path / "diffusers/model", family, size, texts, **scheduler)
    model, text, vae = load_diffusers(ctx, model_path="model")
    assert (model.model.architecture.name, type(model.model_sampling)) == (family, kind)
    assert text.read("a cat")[0].shape == (1, 77, size.text_width)
    assert vae.decode(torch.randn(1, 4, 4, 4)).shape == (1, 32, 32, 3)


def test_a_folder_that_lacks_its_denoiser_says_so(ctx: RunContext, tmp_path: Path) -> None:
    folder = tmp_path / "diffusers/model"
    (folder / "vae").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelFileError, match="has no folder unet or transformer"):
        load_diffusers(ctx, model_path="model")
    (folder / "unet").mkdir()
    with pytest.raises(ModelFileError, match="holds no safetensors file"):
        load_diffusers(ctx, model_path="model")


@pytest.mark.parametrize(
    ("weights", "what"),
    [
        ({"lora_unet_down_blocks_0.lora_up.weight": torch.zeros(1)}, "a LoRA, not a model"),
        ({"decoder.conv_in.weight": torch.zeros(1)}, "load it with VAELoader"),
        ({"text_model.encoder.layers.0.x": torch.zeros(1)}, "load it with CLIPLoader"),
        ({"x": torch.zeros(1)}, "its architecture is unknown; this version reads models of"),
    ],
)
def test_a_file_that_is_no_diffusion_model_says_what_it_is(
    weights: dict[str, torch.Tensor], what: str, ctx: RunContext, tmp_path: Path
) -> None:
    tiny.save(tmp_path / "unet/a.safetensors", weights)
    with pytest.raises(ModelFileError, match=what):
        load_diffusion_model(ctx, unet_name="a.safetensors", weight_dtype="default")
