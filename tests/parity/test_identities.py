"""Workflows that must give the same, though they go about it differently."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.models.attention import sliced
from limner.models.device import Devices
from limner.models.library import ModelLibrary
from tests.parity.studio import SAMPLING, Nodes, Studio, agree, classic, difference, latents, picture, texts
from tests.support.tiny import checkpoints as tiny
from tests.support.tiny import controlnet, lora
from tests.support.tiny.folder import save_all

pytestmark = pytest.mark.slow

NAME = "tiny_sd15.safetensors"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    root = tmp_path_factory.mktemp("models")
    save_all(root)
    return Studio(root)


def latent_of(studio: Studio, nodes: Nodes, **given: Any) -> Tensor:
    samples: Tensor = studio.run(latents(nodes), **given)["samples"]
    return samples


@pytest.fixture(scope="module")
def plain(studio: Studio) -> Tensor:
    """What the plain workflow gives, before anything else has run."""
    return latent_of(studio, classic(NAME))


def changed(nodes: Nodes, **inputs: Any) -> Nodes:
    """The workflow with other inputs for its sampler."""
    kind, given = nodes["sampled"]
    return {**nodes, "sampled": (kind, {**given, **inputs})}


def test_the_same_seed_gives_the_same_latent(studio: Studio, plain: Tensor) -> None:
    assert torch.equal(latent_of(studio, classic(NAME)), plain)
    assert difference(latent_of(studio, classic(NAME, seed=8)), plain) > 0.1


def test_previews_change_nothing(studio: Studio, plain: Tensor) -> None:
    seen = studio.run(latents(classic(NAME)), previews=True)["samples"]
    assert torch.equal(seen, plain)


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_2m_sde", "uni_pc"])
def test_an_item_of_a_batch_is_the_picture_made_alone(sampler: str, studio: Studio) -> None:
    """As far as samplers without noise of their own go; the others draw for the whole batch at once, as in ComfyUI.

    And for items with a multiple of 16 values (4x8x9): torch draws others in another order.
    """
    whole = classic(NAME, height=64, batch=3, sampler_name=sampler)
    single = dict(whole)
    single["one"] = ("LatentFromBatch", {"samples": ["latent", 0], "batch_index": 2, "length": 1})
    single = changed(single, latent_image=["one", 0])
    batch, alone = latent_of(studio, whole), latent_of(studio, single)
    if sampler in ("euler", "uni_pc"):
        agree([alone], [batch[2:]])
    else:
        assert difference(alone, batch[2:]) > 1e-3


@pytest.mark.parametrize("name", [NAME, "tiny_sdxl.safetensors"])
def test_a_lora_leaves_no_trace(name: str, studio: Studio) -> None:
    before = latent_of(studio, classic(name))
    nodes = classic(name)
    file = "tiny_sd15_lora.safetensors"
    if name != NAME:
        shapes = {"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q": (64, 64)}
        file = "xl.safetensors"
        lora.save_lora(studio.folder / f"loras/{file}", shapes)
    nodes["lora"] = ("LoraLoader", {
        "model": ["model", 0], "clip": ["model", 1], "lora_name": file, "strength_model": 1.0, "strength_clip": 1.0
    })  # fmt: skip
    nodes |= texts(["lora", 1])
    nodes = changed(nodes, model=["lora", 0])
    patched = latent_of(studio, nodes)
    assert difference(patched, before) > 1e-4
    assert torch.equal(latent_of(studio, classic(name)), before)
    assert torch.equal(latent_of(studio, nodes), patched)
    nodes["lora"][1].update(strength_model=0.0, strength_clip=0.0)
    assert torch.equal(latent_of(studio, nodes), before)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_control_network_of_no_strength_does_nothing(family: str, studio: Studio) -> None:
    if family == "sdxl":
        controlnet.save_controlnet(studio.folder / "controlnet/xl.safetensors", controlnet.SDXL)
    nodes = classic(f"tiny_{family}.safetensors")
    before = latent_of(studio, nodes)
    nodes |= {
        "shown": ("GivenIMAGE", {"name": "shown"}),
        "network": ("ControlNetLoader", {"control_net_name": f"tiny_{family}_control.safetensors"}),
        "controlled": ("ControlNetApplyAdvanced", {
            "positive": ["positive", 0], "negative": ["negative", 0], "control_net": ["network", 0],
            "image": ["shown", 0], "strength": 0.0, "start_percent": 0.0, "end_percent": 1.0,
        }),
    }  # fmt: skip
    nodes = changed(nodes, positive=["controlled", 0], negative=["controlled", 1])
    assert torch.equal(latent_of(studio, nodes, shown=picture()), before)
    nodes["controlled"][1].update(strength=1.0)
    assert difference(latent_of(studio, nodes, shown=picture()), before) > 1e-4
    assert torch.equal(latent_of(studio, classic(f"tiny_{family}.safetensors")), before)


AREAS: dict[str, tuple[str, dict[str, Any]]] = {
    "an area": ("ConditioningSetArea", {"width": 72, "height": 64, "x": 0, "y": 0, "strength": 1.0}),
    "parts": ("ConditioningSetAreaPercentage", {"width": 1.0, "height": 1.0, "x": 0.0, "y": 0.0, "strength": 1.0}),
    "a mask": ("ConditioningSetMask", {"mask": ["mask", 0], "strength": 1.0, "set_cond_area": "default"}),
    "a mask's bounds": ("ConditioningSetMask", {"mask": ["mask", 0], "strength": 1.0, "set_cond_area": "mask bounds"}),
    "half strength": ("ConditioningSetAreaStrength", {"strength": 0.5}),
    "the whole way": ("ConditioningSetTimestepRange", {"start": 0.0, "end": 1.0}),
}


@pytest.mark.parametrize(("kind", "inputs"), AREAS.values(), ids=AREAS)
def test_a_condition_that_covers_all_is_no_condition(kind: str, inputs: dict[str, Any], studio: Studio) -> None:
    nodes = classic(NAME, height=64)
    before = latent_of(studio, nodes)
    nodes["mask"] = ("SolidMask", {"value": 1.0, "width": 72, "height": 64})
    nodes["placed"] = (kind, {"conditioning": ["positive", 0], **inputs})
    agree([latent_of(studio, changed(nodes, positive=["placed", 0]))], [before])


def test_a_conditioning_beside_itself_is_itself(studio: Studio, plain: Tensor) -> None:
    nodes = classic(NAME)
    nodes["both"] = ("ConditioningCombine", {"conditioning_1": ["positive", 0], "conditioning_2": ["positive", 0]})
    agree([latent_of(studio, changed(nodes, positive=["both", 0]))], [plain])


def test_the_last_layer_is_the_layer_taken(studio: Studio, plain: Tensor) -> None:
    nodes = classic(NAME)
    nodes["skip"] = ("CLIPSetLastLayer", {"clip": ["model", 1], "stop_at_clip_layer": -1})
    assert torch.equal(latent_of(studio, nodes | texts(["skip", 0])), plain)


ADVANCED: dict[str, Any] = {
    **{key: SAMPLING[key] for key in ("steps", "cfg", "sampler_name", "scheduler")},
    "noise_seed": 7, "add_noise": "enable", "return_with_leftover_noise": "disable", "start_at_step": 0,
    "end_at_step": 10000,
}  # fmt: skip


def advanced(**inputs: Any) -> tuple[str, dict[str, Any]]:
    return "KSamplerAdvanced", {
        "model": ["model", 0], "positive": ["positive", 0], "negative": ["negative", 0], "latent_image": ["latent", 0],
        **ADVANCED, **inputs,
    }  # fmt: skip


def test_the_advanced_sampler_walks_the_same_way_in_one_part_or_two(studio: Studio, plain: Tensor) -> None:
    nodes = classic(NAME)
    nodes["sampled"] = advanced()
    assert torch.equal(latent_of(studio, nodes), plain)
    nodes["first"] = advanced(end_at_step=2, return_with_leftover_noise="enable")
    nodes["sampled"] = advanced(start_at_step=2, add_noise="disable", latent_image=["first", 0])
    agree([latent_of(studio, nodes)], [plain])


@pytest.mark.parametrize("name", [NAME, "tiny_sd2_v.safetensors", "tiny_sdxl.safetensors"])
def test_custom_sampling_is_the_same_sampling(name: str, studio: Studio) -> None:
    before = latent_of(studio, classic(name))
    nodes = classic(name)
    custom: Nodes = {
        "noise": ("RandomNoise", {"noise_seed": 7}),
        "guider": ("CFGGuider", {
            "model": ["model", 0], "positive": ["positive", 0], "negative": ["negative", 0], "cfg": SAMPLING["cfg"]
        }),
        "sampler": ("KSamplerSelect", {"sampler_name": "euler"}),
        "sigmas": ("BasicScheduler", {"model": ["model", 0], "scheduler": "normal", "steps": 4, "denoise": 1.0}),
        "sampled": ("SamplerCustomAdvanced", {
            "noise": ["noise", 0], "guider": ["guider", 0], "sampler": ["sampler", 0], "sigmas": ["sigmas", 0],
            "latent_image": ["latent", 0],
        }),
    }  # fmt: skip
    assert torch.equal(latent_of(studio, nodes | custom), before)
    custom["sampled"] = ("SamplerCustom", {
        "model": ["model", 0], "add_noise": True, "noise_seed": 7, "cfg": SAMPLING["cfg"],
        "positive": ["positive", 0], "negative": ["negative", 0], "sampler": ["sampler", 0], "sigmas": ["sigmas", 0],
        "latent_image": ["latent", 0],
    })  # fmt: skip
    assert torch.equal(latent_of(studio, nodes | custom), before)


def merged(ratio: float) -> Nodes:
    nodes = classic(NAME)
    nodes |= {
        "other": ("CheckpointLoaderSimple", {"ckpt_name": "tiny_sd15_b.safetensors"}),
        "mixed": ("ModelMergeSimple", {"model1": ["model", 0], "model2": ["other", 0], "ratio": ratio}),
        "clips": ("CLIPMergeSimple", {"clip1": ["model", 1], "clip2": ["other", 1], "ratio": ratio}),
        **texts(["clips", 0]),
    }
    return changed(nodes, model=["mixed", 0])


def test_a_merge_ends_in_the_models_it_mixes(studio: Studio, plain: Tensor) -> None:
    other = latent_of(studio, classic("tiny_sd15_b.safetensors"))
    assert difference(other, plain) > 1e-3
    agree([latent_of(studio, merged(1.0)), latent_of(studio, merged(0.0))], [plain, other])
    assert torch.equal(latent_of(studio, classic(NAME)), plain)


def test_a_merge_that_is_saved_is_the_merge(studio: Studio, tmp_path: Path) -> None:
    nodes = merged(0.4)
    mixed = studio.run(nodes)
    saved = {key: each for key, each in nodes.items() if key not in ("sampled", "picture", "latent")}
    saved["keep"] = ("Keep", {"value": ["mixed", 0]})
    saved["file"] = ("CheckpointSave", {
        "model": ["mixed", 0], "clip": ["clips", 0], "vae": ["model", 2], "filename_prefix": "checkpoints/merged"
    })  # fmt: skip
    studio.run(saved)
    (file,) = studio.folder.glob("**/*merged_*.safetensors")
    shutil.move(file, studio.folder / "checkpoints/merged.safetensors")
    error = difference(studio.run(classic("merged.safetensors")), mixed)
    assert error < 2e-3  # the file is in half precision, as those were that it was made of


@pytest.mark.parametrize(("tile", "most"), [(64, 0.03), (128, 0.01)])
def test_a_vae_in_tiles_comes_close_to_the_whole(tile: int, most: float, studio: Studio) -> None:
    """The trained one that comes with Limner, on six of its own pictures side by side: norms over a tile are nearly
    those over the whole.
    """
    apples = classic("limner-demo.safetensors", width=64, height=64, batch=6, steps=8, cfg=4.0)
    made = studio.run(apples | texts(["model", 1], "a red apple", ""))
    large = torch.cat([torch.cat([*made[:3]], dim=1), torch.cat([*made[3:]], dim=1)])[None]
    nodes: Nodes = {
        "model": ("CheckpointLoaderSimple", {"ckpt_name": "limner-demo.safetensors"}),
        "shown": ("GivenIMAGE", {"name": "shown"}),
        "encoded": ("VAEEncode", {"pixels": ["shown", 0], "vae": ["model", 2]}),
        "decoded": ("VAEDecode", {"samples": ["encoded", 0], "vae": ["model", 2]}),
        "keep": ("Keep", {"value": ["decoded", 0]}),
    }
    parts = {
        "tile_size": tile, "overlap": 32, "temporal_size": 64, "temporal_overlap": 8, "samples": ["encoded", 0],
        "vae": ["model", 2],
    }  # fmt: skip
    tiled: Nodes = {**nodes, "decoded": ("VAEDecodeTiled", parts)}
    whole, sewn = studio.run(nodes, shown=large), studio.run(tiled, shown=large)
    assert whole.shape == sewn.shape == (1, 128, 192, 3)
    error = float((whole - sewn).abs().mean())
    print(f"difference {error:.1e}")
    assert error < most
    one: Nodes = {**tiled, "decoded": ("VAEDecodeTiled", {**parts, "tile_size": 512})}
    assert torch.allclose(studio.run(one, shown=large), whole, atol=1e-6)


@pytest.mark.parametrize("name", [NAME, "tiny_sdxl.safetensors"])
def test_sliced_attention_is_attention(name: str, studio: Studio) -> None:
    nodes = classic(name, width=128, height=136)
    whole = latent_of(studio, nodes)
    with sliced(16):
        agree([latent_of(studio, nodes)], [whole])


def test_half_precision_comes_close(studio: Studio, tmp_path: Path) -> None:
    """bfloat16 keeps 8 bits of a number; the latent is up to 4 steps of a network away from that."""
    half = Studio(studio.folder)
    half.models = ModelLibrary(half.models.folders, _Bfloat16(device=torch.device("cpu"), half=torch.bfloat16))
    for name in (NAME, "tiny_sdxl.safetensors"):
        assert difference(latent_of(half, classic(name)), latent_of(studio, classic(name))) < 0.05
        assert half.models.checkpoint(name)[0].model.dtype == torch.bfloat16


class _Bfloat16(Devices):
    """However small the network is."""

    def network_dtype(self, parameters: int) -> torch.dtype:
        return torch.bfloat16


def test_a_checkpoint_is_its_parts(studio: Studio, tmp_path: Path) -> None:
    """The same weights, from one file or from three."""
    for path in ("unet", "vae"):
        save = {"unet": tiny.save_unet, "vae": tiny.save_vae}[path]
        save(studio.folder / f"{path}/part.safetensors", prefix="")
    nodes = classic(NAME)
    nodes["unet"] = ("UNETLoader", {"unet_name": "part.safetensors", "weight_dtype": "default"})
    nodes["clip"] = ("CLIPLoader", {"clip_name": "tiny_clip_l.safetensors", "type": "stable_diffusion"})
    nodes["vae"] = ("VAELoader", {"vae_name": "part.safetensors"})
    nodes |= texts(["clip", 0])
    nodes = changed(nodes, model=["unet", 0])
    nodes["picture"] = ("VAEDecode", {"samples": ["sampled", 0], "vae": ["vae", 0]})
    error = difference(studio.run(nodes), studio.run(classic(NAME)))
    assert error < 1e-3  # the text encoder's own file is not in half precision
