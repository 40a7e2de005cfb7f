from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from limner.errors import DiskFull, UnfitInput
from limner.models.clip import Clip
from limner.models.device import Devices
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.models.model import Model
from limner.models.residency import use
from limner.models.saving import write
from limner.nodes import library
from tests.support.tiny import checkpoints, layout
from tests.support.tiny.checkpoints import (
    save_sd2_unclip,
    save_sd2_v,
    save_sd15,
    save_sd15_inpaint,
    save_sdxl,
    save_sdxl_refiner,
)
from tests.support.tiny.lora import save_lora
from tests.unit.nodes.contexts import Run, run_in

NODES = library.load()
CPU = Devices(device=torch.device("cpu"), half=None)
FIRST = "diffusion_model.input_blocks.1.0.in_layers.2.weight"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_sd15(root / "checkpoints/one.safetensors")
    weights = checkpoints.parts(checkpoints.SD15, "sd15")
    other = {key: each * 0.5 if each.is_floating_point() else each for key, each in weights.items()}
    checkpoints.save(root / "checkpoints/two.safetensors", other)
    save_sd15_inpaint(root / "checkpoints/inpaint.safetensors")
    save_sdxl(root / "checkpoints/xl.safetensors")
    save_lora(root / "loras/style.safetensors")
    return root


@pytest.fixture
def models(root: Path) -> ModelLibrary:
    return ModelLibrary(ModelFolders([root]), CPU)


@pytest.fixture
def run(models: ModelLibrary, tmp_path: Path) -> Run:
    return run_in(tmp_path, services={ModelLibrary: models})


def call(name: str, run: Run, **inputs: Any) -> Any:
    values = NODES[name].call(inputs, run.ctx).values
    return values[0] if len(values) == 1 else values


def weight(user: Model | Clip, key: str = FIRST) -> Tensor:
    """A weight as it runs."""
    with use(user):
        return user.keys.gather(user.module, key).clone()


@pytest.mark.parametrize(
    ("name", "inputs", "expected"),
    [
        ("ModelMergeSimple", {"ratio": 0.25}, lambda one, two: 0.25 * one + 0.75 * two),
        ("ModelMergeSimple", {"ratio": 1.0}, lambda one, two: one),
        ("ModelMergeSubtract", {"multiplier": 2.0}, lambda one, two: 2 * (one - two)),
        ("ModelMergeAdd", {}, lambda one, two: one + two),
        ("ModelMergeBlocks", {"input": 0.2, "middle": 1.0, "out": 0.0}, lambda one, two: 0.2 * one + 0.8 * two),
    ],
)
def test_models_are_mixed(
    name: str, inputs: dict[str, float], expected: Callable[[Tensor, Tensor], Tensor], models: ModelLibrary, run: Run
) -> None:
    one, two = (models.checkpoint(f"{each}.safetensors")[0] for each in ("one", "two"))
    merged = call(name, run, model1=one, model2=two, **inputs)
    torch.testing.assert_close(weight(merged), expected(weight(one), weight(two)))
    assert run.warnings == []


def test_blocks_are_mixed_by_their_own_shares(models: ModelLibrary, run: Run) -> None:
    one, two = (models.checkpoint(f"{each}.safetensors")[0] for each in ("one", "two"))
    merged = call("ModelMergeBlocks", run, model1=one, model2=two, input=0.25, middle=0.5, out=0.75)
    for key, share in (
        ("time_embed.0.weight", 0.25),
        ("input_blocks.0.0.weight", 0.25),
        ("middle_block.0.in_layers.2.weight", 0.5),
        ("output_blocks.0.0.in_layers.2.weight", 0.75),
        ("out.2.weight", 0.75),
    ):
        mixed = share * weight(one, f"diffusion_model.{key}") + (1 - share) * weight(two, f"diffusion_model.{key}")
        torch.testing.assert_close(weight(merged, f"diffusion_model.{key}"), mixed)


def test_what_was_added_to_either_model_before_is_mixed_too(models: ModelLibrary, run: Run) -> None:
    one, two = (models.checkpoint(f"{each}.safetensors")[0] for each in ("one", "two"))
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    told = {"lora_name": "style.safetensors", "strength_model": 1.0}
    styled, also = (call("LoraLoaderModelOnly", run, model=each, **told) for each in (one, two))
    merged = call("ModelMergeSimple", run, model1=styled, model2=also, ratio=0.5)
    run.warnings.clear()
    torch.testing.assert_close(weight(merged, key), (weight(styled, key) + weight(also, key)) / 2)
    alone = call("ModelMergeSimple", run, model1=one, model2=styled, ratio=0.5)
    torch.testing.assert_close(weight(alone, key), (weight(one, key) + weight(styled, key)) / 2)


def test_text_encoders_are_mixed(models: ModelLibrary, run: Run) -> None:
    one, two = (models.checkpoint(f"{each}.safetensors")[1] for each in ("one", "two"))
    key = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    for name, inputs, shares in (
        ("CLIPMergeSimple", {"ratio": 0.25}, (0.25, 0.75)),
        ("CLIPMergeSubtract", {"multiplier": 2.0}, (2.0, -2.0)),
        ("CLIPMergeAdd", {}, (1.0, 1.0)),
    ):
        merged = call(name, run, clip1=one, clip2=two, **inputs)
        torch.testing.assert_close(weight(merged, key), shares[0] * weight(one, key) + shares[1] * weight(two, key))


def test_models_of_other_families_are_not_mixed(models: ModelLibrary, run: Run) -> None:
    one, xl = (models.checkpoint(f"{each}.safetensors") for each in ("one", "xl"))
    with pytest.raises(
        UnfitInput, match=r"one.safetensors and xl.safetensors cannot be merged: only \d+ of \d+ weights"
    ):
        call("ModelMergeSimple", run, model1=one[0], model2=xl[0], ratio=0.5)
    assert run.warnings == []


def test_of_two_text_encoders_only_one_may_have_its_like(models: ModelLibrary, run: Run) -> None:
    one, xl = (models.checkpoint(f"{each}.safetensors")[1] for each in ("one", "xl"))
    merged = call("CLIPMergeSimple", run, clip1=xl, clip2=one, ratio=0.0)
    for name, like in (("clip_l", one), ("clip_g", xl)):
        key = f"{name}.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
        assert torch.equal(weight(merged, key), weight(like, key))
    assert len(run.warnings) == 1
    assert "have no like in those of Stable Diffusion 1.x and stay as they are (clip_g." in run.warnings[0]


def test_a_difference_goes_into_an_inpainting_model_but_for_its_first_layer(models: ModelLibrary, run: Run) -> None:
    one, two, inpaint = (models.checkpoint(f"{each}.safetensors")[0] for each in ("one", "two", "inpaint"))
    difference = call("ModelMergeSubtract", run, model1=one, model2=two, multiplier=1.0)
    merged = call("ModelMergeAdd", run, model1=inpaint, model2=difference)
    torch.testing.assert_close(weight(merged), weight(inpaint) + weight(one) - weight(two))
    entry = "diffusion_model.input_blocks.0.0.weight"
    assert torch.equal(weight(merged, entry), weight(inpaint, entry))
    assert len(run.warnings) == 1
    assert "1 weights of inpaint.safetensors have no like in one.safetensors" in run.warnings[0]


def written(run: Run, number: int = 1) -> Path:
    wanted = run.files.reserved[number - 1]
    return run.files.folder / f"{wanted['prefix']}_00001_.safetensors"


def head(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


@pytest.mark.parametrize(
    "save", [save_sd15, save_sd2_v, save_sd2_unclip, save_sdxl, save_sdxl_refiner, save_sd15_inpaint]
)
def test_a_saved_checkpoint_loads_with_equal_weights_and_uses(save: Callable[[Path], Path], tmp_path: Path) -> None:
    save(tmp_path / "models/checkpoints/a.safetensors")
    models = ModelLibrary(ModelFolders([tmp_path / "models"]), CPU)
    run = run_in(tmp_path, services={ModelLibrary: models})
    model, clip, vae = models.checkpoint("a.safetensors")
    call("CheckpointSave", run, model=model, clip=clip, vae=vae, filename_prefix="saved", prompt=None)
    shutil.copy(written(run), tmp_path / "models/checkpoints/b.safetensors")
    again, encoder, decoder = models.checkpoint("b.safetensors")
    assert again.model.architecture is model.model.architecture
    assert type(again.model_sampling) is type(model.model_sampling)
    assert torch.equal(again.model_sampling.levels.table, model.model_sampling.levels.table)
    for one, other in ((model, again), (clip, encoder), (vae.patcher, decoder.patcher)):
        assert list(one.keys) == list(other.keys)
        assert all(torch.equal(one.weight(key), other.weight(key)) for key in one.keys)
        assert all(one.weight(key).dtype == other.weight(key).dtype for key in one.keys)
    latent = torch.randn(1, 4, 4, 4)
    assert torch.equal(vae.decode(latent), decoder.decode(latent))
    assert torch.equal(clip.read("a cat")[0], encoder.read("a cat")[0])
    assert {**again.model.facts, "augmentation": 0} == {**model.model.facts, "augmentation": 0}


def test_what_was_merged_and_added_is_saved(models: ModelLibrary, run: Run, root: Path) -> None:
    one, clip, vae = models.checkpoint("one.safetensors")
    two, _, _ = models.checkpoint("two.safetensors")
    merged = call("ModelMergeSimple", run, model1=one, model2=two, ratio=0.5)
    told = {"model": merged, "clip": clip, "lora_name": "style.safetensors"}
    styled, encoder = call("LoraLoader", run, **told, strength_model=1.0, strength_clip=1.0)
    call("CheckpointSave", run, model=styled, clip=encoder, vae=vae, filename_prefix="mine")
    shutil.copy(written(run), root / "checkpoints/mine.safetensors")
    again, encodes, _ = models.checkpoint("mine.safetensors")
    for user, other in ((styled, again), (encoder, encodes)):
        assert user.patches
        for key in user.patches:
            torch.testing.assert_close(weight(user, key).half().float(), weight(other, key))


def test_the_head_tells_the_workflow_and_what_it_is(models: ModelLibrary, run: Run) -> None:
    model, clip, vae = models.checkpoint("xl.safetensors")
    prompt, workflow = {"1": {"class_type": "x"}}, {"nodes": []}
    told = {"prompt": prompt, "extra_pnginfo": {"workflow": workflow}}
    call("CheckpointSave", run, model=model, clip=clip, vae=vae, filename_prefix="xl", **told)
    texts = head(written(run))
    assert json.loads(texts["prompt"]) == prompt
    assert json.loads(texts["workflow"]) == workflow
    assert texts["modelspec.sai_model_spec"] == "1.0.0"
    assert texts["modelspec.architecture"] == "stable-diffusion-xl-v1-base"
    assert texts["modelspec.title"] == "xl 1"
    assert texts["modelspec.predict_key"] == "epsilon"
    with pytest.raises(UnfitInput, match="extra_pnginfo is an object"):
        call("VAESave", run, vae=vae, filename_prefix="v", extra_pnginfo="no")


def test_facts_that_shapes_do_not_tell_go_with_the_parts(tmp_path: Path) -> None:
    size = layout.Size(heads=4)
    told = {"unet": {"num_heads": 4}, "native_size": 64}
    layout.save(tmp_path / "models/checkpoints/a.safetensors", layout.keys(size, layout.networks(size)), config=told)
    models = ModelLibrary(ModelFolders([tmp_path / "models"]), CPU)
    run = run_in(tmp_path, services={ModelLibrary: models})
    model, clip, vae = models.checkpoint("a.safetensors")
    call("CheckpointSave", run, model=model, clip=clip, vae=vae, filename_prefix="saved")
    assert json.loads(head(written(run))["limner.config"]) == told
    shutil.copy(written(run), tmp_path / "models/checkpoints/b.safetensors")
    again = models.checkpoint("b.safetensors")[0]
    assert again.model.native_size == 64
    assert again.model.diffusion_model.config["attention_head_dim"] == 4  # type: ignore[union-attr, index]


def test_a_small_vocabulary_is_saved_with_the_checkpoint_alone(tmp_path: Path) -> None:
    models = ModelLibrary(ModelFolders([tmp_path]), CPU)
    run = run_in(tmp_path, services={ModelLibrary: models})
    model, clip, vae = models.checkpoint("limner-demo.safetensors")
    call("CheckpointSave", run, model=model, clip=clip, vae=vae, filename_prefix="demo")
    (tmp_path / "checkpoints").mkdir()
    shutil.move(written(run), tmp_path / "checkpoints/again.safetensors")
    again, encoder, _ = models.checkpoint("again.safetensors")
    assert torch.equal(encoder.read("a red circle")[0], clip.read("a red circle")[0])
    assert again.latent_format == model.latent_format
    with pytest.raises(UnfitInput, match="only a checkpoint can tell"):
        call("CLIPSave", run, clip=clip, filename_prefix="clip")


def test_parts_are_saved_as_files_of_their_own(models: ModelLibrary, run: Run, root: Path) -> None:
    model, clip, vae = models.checkpoint("xl.safetensors")
    call("ModelSave", run, model=model, filename_prefix="unet")
    call("VAESave", run, vae=vae, filename_prefix="vae")
    call("CLIPSave", run, clip=clip, filename_prefix="clip")
    assert [each["prefix"] for each in run.files.reserved] == ["unet", "vae", "clip_clip_l", "clip_clip_g"]
    for number, folder in enumerate(("diffusion_models", "vae", "text_encoders", "text_encoders"), start=1):
        (root / folder).mkdir(exist_ok=True)
        shutil.copy(written(run, number), root / folder)
    alone = models.diffusion_model("unet_00001_.safetensors")
    assert all(torch.equal(alone.weight(key), model.weight(key)) for key in model.keys)
    latent = torch.randn(1, 4, 4, 4)
    assert torch.equal(models.vae("vae_00001_.safetensors").decode(latent), vae.decode(latent))
    files = ["clip_clip_l_00001_.safetensors", "clip_clip_g_00001_.safetensors"]
    encoder = models.text_encoders(files, "sdxl")
    assert torch.equal(encoder.read("a cat")[0], clip.read("a cat")[0])


def test_text_encoders_of_another_family_are_not_saved_with_a_model(models: ModelLibrary, run: Run) -> None:
    model, _, vae = models.checkpoint("xl.safetensors")
    clip = models.checkpoint("one.safetensors")[1]
    with pytest.raises(UnfitInput, match=r"xl.safetensors cannot be saved with these text encoders"):
        call("CheckpointSave", run, model=model, clip=clip, vae=vae, filename_prefix="x")
    assert run.files.reserved == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_weights: object, path: Path, _texts: object) -> None:
        path.write_bytes(b"part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(DiskFull, match=r"no room for a.safetensors"):
        write(tmp_path / "a.safetensors", {"a": torch.zeros(2)}, {})
    assert list(tmp_path.iterdir()) == []
