"""Model files that are damaged, of another kind or of another family: told by name, and the next job is fine."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.support.tiny import checkpoints, controlnet, lora, text_encoders
from tests.support.tree import Tree, eventually, serving, txt2img

pytestmark = pytest.mark.slow

LOADERS = {
    "checkpoints": ("CheckpointLoaderSimple", "ckpt_name", {}),
    "diffusion_models": ("UNETLoader", "unet_name", {"weight_dtype": "default"}),
    "text_encoders": ("CLIPLoader", "clip_name", {"type": "stable_diffusion", "device": "default"}),
    "vae": ("VAELoader", "vae_name", {}),
    "controlnet": ("ControlNetLoader", "control_net_name", {}),
    "upscale_models": ("UpscaleModelLoader", "model_name", {}),
    "clip_vision": ("CLIPVisionLoader", "clip_name", {}),
    "style_models": ("StyleModelLoader", "style_model_name", {}),
    "gligen": ("GLIGENLoader", "gligen_name", {}),
}


def safetensors(header: Any, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


DAMAGED = {
    "empty": (b"", "0 bytes are no model"),
    "page": (b"<!DOCTYPE html><html>404</html>" * 9, "not a safetensors file"),
    "no_json": (safetensors(b"{no json]  "), "header is damaged"),
    "deep": (safetensors(b'{"a":' * 50_000 + b"1" + b"}" * 50_000), "header is damaged"),
    "long_header": (struct.pack("<Q", 2**63) + b"{}" * 40, "not a safetensors file"),
    "outside": (
        safetensors({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}, b"1234"),
        "cut short",
    ),
    "negative": (
        safetensors({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, b"12345678"),
        "header is damaged",
    ),
    "nothing": (safetensors({"__metadata__": {"a": "b"}}), "holds no tensors"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    folder = tmp_path_factory.mktemp("models")
    models = folder / "models"
    checkpoints.save_sd15(models / "checkpoints/sd15.safetensors")
    checkpoints.save_sdxl(models / "checkpoints/sdxl.safetensors")
    checkpoints.save_flux_vae(models / "vae/flux_vae.safetensors")
    lora.save_lora(models / "loras/sd15_lora.safetensors")
    controlnet.save_controlnet(models / "controlnet/sd15_control.safetensors")
    text_encoders.save_clip(models / "text_encoders/clip_l.safetensors", "clip_l")
    for name, (data, _) in DAMAGED.items():
        (models / f"checkpoints/{name}.safetensors").write_bytes(data)
        (models / f"loras/{name}.safetensors").write_bytes(data)
    whole = (models / "checkpoints/sd15.safetensors").read_bytes()
    (models / "checkpoints/half.safetensors").write_bytes(whole[: len(whole) // 2])
    (models / "checkpoints/folder.safetensors").mkdir()
    (models / "checkpoints/circle.safetensors").symlink_to("circle.safetensors")
    torch.save({"state_dict": {"a": torch.zeros(2)}}, models / "checkpoints/pickled.ckpt")
    for kind in LOADERS:
        (models / kind).mkdir(exist_ok=True)
        os.link(models / "loras/sd15_lora.safetensors", models / kind / "a_lora.safetensors")
    with serving(folder / "data", "--models", str(models)) as tree:
        eventually(lambda: "sd15.safetensors" in names_of_checkpoints(tree), seconds=60, what="the files are offered")
        yield tree


def names_of_checkpoints(tree: Tree) -> list[str]:
    told = tree.get("/object_info/CheckpointLoaderSimple")["CheckpointLoaderSimple"]
    names: list[str] = told["input"]["required"]["ckpt_name"][0]
    return names


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def loading(kind: str, name: str) -> dict[str, Any]:
    class_type, box, more = LOADERS[kind]
    return {"1": node(class_type, **{box: name}, **more), "2": node("PreviewAny", source=["1", 0])}


def picture(checkpoint: str = "sd15.safetensors", **changed: dict[str, Any]) -> dict[str, Any]:
    """The classic workflow with some of its nodes changed or added."""
    workflow = txt2img(steps=1)
    workflow["4"]["inputs"]["ckpt_name"] = checkpoint
    workflow["5"]["inputs"] |= {"width": 64, "height": 64}
    for node_id, inputs in changed.items():
        if "class_type" in inputs:
            workflow[node_id.lstrip("_")] = inputs
        else:
            workflow[node_id.lstrip("_")]["inputs"] |= inputs
    return workflow


def fault(tree: Tree, workflow: dict[str, Any]) -> str:
    """The message of a run that must fail; the one behind it must succeed."""
    prompt_id, after = tree.post(workflow), tree.post(picture())
    history = tree.wait_history([prompt_id, after])
    assert history[after]["status"]["status_str"] == "success"
    messages = dict(history[prompt_id]["status"]["messages"])
    assert history[prompt_id]["status"]["status_str"] == "error"
    told = messages["execution_error"]
    assert told["exception_type"] in ("limner.errors.ModelFileError", "limner.errors.UnfitInput"), told
    return str(told["exception_message"])


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_checkpoint_is_named_with_its_fault(tree: Tree, name: str) -> None:
    message = fault(tree, loading("checkpoints", f"{name}.safetensors"))
    assert message.startswith(f"{name}.safetensors cannot be used")
    assert DAMAGED[name][1] in message


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_lora_is_named_with_its_fault(tree: Tree, name: str) -> None:
    lora_node = node(
        "LoraLoader",
        model=["4", 0],
        clip=["4", 1],
        lora_name=f"{name}.safetensors",
        strength_model=1.0,
        strength_clip=1.0,
    )
    message = fault(tree, picture(_20=lora_node, _3={"model": ["20", 0]}))
    assert DAMAGED[name][1] in message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("half.safetensors", "cut short"),
        ("circle.safetensors", "symbolic links"),
        ("pickled.ckpt", "--allow-pickle"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tree: Tree, name: str, words: str) -> None:
    assert words in fault(tree, loading("checkpoints", name))


def test_a_folder_with_a_models_name_is_no_model(tree: Tree) -> None:
    names = names_of_checkpoints(tree)
    assert "sd15.safetensors" in names
    assert "folder.safetensors" not in names


@pytest.mark.parametrize("kind", LOADERS)
def test_a_lora_is_refused_by_every_other_loader(tree: Tree, kind: str) -> None:
    assert "a_lora.safetensors cannot be used" in fault(tree, loading(kind, "a_lora.safetensors"))


def test_a_lora_of_another_family_is_refused(tree: Tree) -> None:
    lora_node = node(
        "LoraLoader",
        model=["4", 0],
        clip=["4", 1],
        lora_name="sd15_lora.safetensors",
        strength_model=1.0,
        strength_clip=1.0,
    )
    message = fault(tree, picture("sdxl.safetensors", _20=lora_node, _3={"model": ["20", 0]}))
    assert "sd15_lora.safetensors does not fit sdxl.safetensors" in message


def test_a_controlnet_of_another_family_is_refused(tree: Tree) -> None:
    message = fault(
        tree,
        picture(
            "sdxl.safetensors",
            _20=node("ControlNetLoader", control_net_name="sd15_control.safetensors"),
            _21=node("EmptyImage", width=64, height=64, batch_size=1, color=0),
            _22=node("ControlNetApply", conditioning=["6", 0], control_net=["20", 0], image=["21", 0], strength=1.0),
            _3={"positive": ["22", 0]},
        ),
    )
    assert "sd15_control.safetensors does not fit sdxl.safetensors" in message


@pytest.mark.parametrize(
    ("model", "other"), [("sd15.safetensors", "sdxl.safetensors"), ("sdxl.safetensors", "sd15.safetensors")]
)
def test_a_prompt_of_another_familys_encoder_is_refused(tree: Tree, model: str, other: str) -> None:
    changed = {"_20": node("CheckpointLoaderSimple", ckpt_name=other), "_6": {"clip": ["20", 1]}}
    message = fault(tree, picture(model, **changed))
    assert f"{model} takes (batch, tokens," in message


def test_a_latent_of_another_vae_is_refused_by_vae_and_model(tree: Tree) -> None:
    vae = node("VAELoader", vae_name="flux_vae.safetensors")
    assert "use the VAE of the model that made the latent" in fault(tree, picture(_20=vae, _8={"vae": ["20", 0]}))
    image = node("EmptyImage", width=64, height=64, batch_size=1, color=0)
    encoded = node("VAEEncode", pixels=["21", 0], vae=["20", 0])
    message = fault(tree, picture(_20=vae, _21=image, _22=encoded, _3={"latent_image": ["22", 0]}))
    assert "the latent has 16 channels, the model works on 4" in message
