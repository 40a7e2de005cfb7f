"""Flux.1, Stable Diffusion 3 and Z-Image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from diffusers.pipelines.flux.pipeline_flux_fill import FluxFillPipeline
from diffusers.pipelines.flux.pipeline_flux_kontext import FluxKontextPipeline
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from diffusers.pipelines.z_image.pipeline_z_image import ZImagePipeline
from torch import Tensor, nn

from limner.diffusion.levels import exponential_shift, straight
from tests.parity import theirs
from tests.parity.flows import CHANNELS, HEIGHT, WIDTH, made, packed, qwen_ids, t5_ids, walk
from tests.parity.studio import SAMPLING, Nodes, Studio, agree, difference, latents, picture, start, texts
from tests.support.tiny import checkpoints as tiny
from tests.support.tiny import flux, lora, sd3, text_encoders, z_image

pytestmark = pytest.mark.slow

NOISE = start(WIDTH, HEIGHT, channels=CHANNELS)
FLOW: dict[str, Any] = {**SAMPLING, "steps": 3, "scheduler": "simple"}
FILL = replace(flux.DEV, channels=96)
SCHNELL = replace(flux.DEV, guidance=False)


@pytest.fixture(scope="module")
def made_texts() -> dict[str, Any]:
    return {}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, made_texts: dict[str, Any]) -> Studio:
    root = tmp_path_factory.mktemp("models")
    for name, size in (("dev", flux.DEV), ("schnell", SCHNELL), ("fill", FILL)):
        flux.save_flux(root / f"diffusion_models/{name}.safetensors", size)
    z_image.save_z_image(root / "diffusion_models/z_image.safetensors")
    for name, size3 in (("sd3", sd3.SD3), ("sd35_medium", sd3.MEDIUM)):
        sd3.save_sd3(root / f"diffusion_models/{name}.safetensors", size3)
    tiny.save_flux_vae(root / "vae/flux.safetensors")
    folder = root / "text_encoders"
    made_texts["l"] = text_encoders.save_clip(folder / "l.safetensors", "clip_l")
    made_texts["g"] = text_encoders.save_clip(folder / "g.safetensors", "clip_g")
    made_texts["t5"] = text_encoders.save_t5(folder / "t5.safetensors", width=128)
    made_texts["qwen"] = text_encoders.save_qwen(folder / "qwen.safetensors")
    made_texts["qwen_ids"] = qwen_ids(folder / "qwen.tokenizer.json")
    return Studio(root)


def both(studio: Studio, nodes: Nodes, **given: Any) -> tuple[Tensor, Tensor]:
    return studio.run(latents(nodes), **given)["samples"], studio.run(nodes, **given)


def split(unet: str, loader: str, files: dict[str, Any], **sampling: Any) -> Nodes:
    """Network, text encoders and VAE from files of their own."""
    return {
        "model": ("UNETLoader", {"unet_name": unet, "weight_dtype": "default"}),
        "clip": (loader, files),
        "vae": ("VAELoader", {"vae_name": "flux.safetensors"}),
        **texts(["clip", 0]),
        "latent": ("EmptySD3LatentImage", {"width": WIDTH, "height": HEIGHT, "batch_size": 1}),
        "sampled": ("KSampler", {
            "model": ["model", 0], "positive": ["positive", 0], "negative": ["negative", 0],
            "latent_image": ["latent", 0], **FLOW, **sampling,
        }),
        "picture": ("VAEDecode", {"samples": ["sampled", 0], "vae": ["vae", 0]}),
        "keep": ("Keep", {"value": ["picture", 0]}),
    }  # fmt: skip


def flux_nodes(unet: str = "dev.safetensors", guidance: float = 2.5, **sampling: Any) -> Nodes:
    files = {"clip_name1": "l.safetensors", "clip_name2": "t5.safetensors", "type": "flux"}
    nodes = split(unet, "DualCLIPLoader", files, **{"cfg": 1.0, **sampling})
    nodes["guided"] = ("FluxGuidance", {"conditioning": ["positive", 0], "guidance": guidance})
    nodes["sampled"][1]["positive"] = ["guided", 0]
    return nodes


def flux_parts(made_texts: dict[str, Any], size: flux.FluxSize = flux.DEV) -> dict[str, Any]:
    """Levels: Flux' shift is told as a number (1.15), not taken from the size of the picture."""
    return {
        "scheduler": theirs.ToldFlow(walk(exponential_shift(1.15 if size.guidance else 0.0))),
        "vae": theirs.vae(tiny.FLUX_VAE, 0.3611, 0.1159),
        "text_encoder": text_encoders.plain(made_texts["l"]),
        "tokenizer": theirs.tokenizer(),
        "text_encoder_2": made_texts["t5"],
        "tokenizer_2": t5_ids(),
        "transformer": flux.network(size),
    }


ASKED = {"prompt": theirs.PROMPTS["prompt"], "latents": packed(NOISE), "max_sequence_length": 256}
"""ComfyUI fills a prompt up to 256 places of T5, diffusers to 512."""


def test_flux_dev(studio: Studio, made_texts: dict[str, Any]) -> None:
    other = made(FluxPipeline(**flux_parts(made_texts)), guidance_scale=2.5, **ASKED)
    agree(both(studio, flux_nodes()), other)


def test_flux_dev_with_a_negative_prompt(studio: Studio, made_texts: dict[str, Any]) -> None:
    """True guidance beside the distilled one, of which the negative is told 2.5 as well in diffusers."""
    nodes = flux_nodes(cfg=3.0)
    nodes["guided_away"] = ("FluxGuidance", {"conditioning": ["negative", 0], "guidance": 2.5})
    nodes["sampled"][1]["negative"] = ["guided_away", 0]
    other = made(
        FluxPipeline(**flux_parts(made_texts)), guidance_scale=2.5, true_cfg_scale=3.0,
        negative_prompt=theirs.PROMPTS["negative_prompt"], **ASKED,
    )  # fmt: skip
    agree(both(studio, nodes), other)


def test_flux_schnell(studio: Studio, made_texts: dict[str, Any]) -> None:
    other = made(FluxPipeline(**flux_parts(made_texts, SCHNELL)), guidance_scale=0.0, **ASKED)
    agree(both(studio, flux_nodes("schnell.safetensors")), other)


JOINED = {
    "lora_unet_double_blocks_0_img_attn_qkv": ((192, 64), [f"transformer_blocks.0.attn.to_{each}" for each in "qkv"]),
    "lora_unet_double_blocks_1_txt_mlp_2": ((64, 256), ["transformer_blocks.1.ff_context.net.2"]),
    "lora_unet_single_blocks_1_linear1": (
        (448, 64),
        [
            *(f"single_transformer_blocks.1.attn.to_{each}" for each in "qkv"),
            "single_transformer_blocks.1.proj_mlp",
        ],
    ),
}
"""Modules of the original layout, and those of diffusers that their rows are made of, one below the other."""


def test_flux_with_loras_of_either_layout(studio: Studio, made_texts: dict[str, Any]) -> None:
    own = "transformer.transformer_blocks.1.attn.add_k_proj"
    lora.save_lora(studio.folder / "loras/original.safetensors", {name: shape for name, (shape, _) in JOINED.items()})
    lora.save_lora(studio.folder / "loras/own.safetensors", {own: (64, 64)}, style="diffusers", alpha=None, seed=3)
    nodes = flux_nodes()
    nodes["first"] = ("LoraLoaderModelOnly", {
        "model": ["model", 0], "lora_name": "original.safetensors", "strength_model": 0.5
    })  # fmt: skip
    nodes["second"] = ("LoraLoaderModelOnly", {
        "model": ["first", 0], "lora_name": "own.safetensors", "strength_model": 0.8
    })  # fmt: skip
    nodes["sampled"][1].update(model=["second", 0])
    parts = flux_parts(made_texts)
    network = parts["transformer"]
    for shape, modules in JOINED.values():
        up, down = lora.low_rank(shape, 4)
        changes = iter(torch.split(0.5 * 2.0 / 4 * up @ down, 64))
        for module in modules:
            weight = network.get_submodule(module).weight
            rows = [next(changes) for _ in range(len(weight) // 64)]
            weight.data += torch.cat(rows)
    up, down = lora.low_rank((64, 64), 4, 3)
    network.get_submodule(own.removeprefix("transformer.")).weight.data += 0.8 * up @ down
    other = made(FluxPipeline(**parts), guidance_scale=2.5, **ASKED)
    agree(both(studio, nodes), other)
    assert difference(studio.run(flux_nodes()), other[1]) > 1e-3


def pixels() -> Tensor:
    return picture(WIDTH, HEIGHT).movedim(-1, 1)


def test_flux_kontext(studio: Studio, made_texts: dict[str, Any]) -> None:
    nodes = flux_nodes()
    nodes |= {
        "shown": ("GivenIMAGE", {"name": "shown"}),
        "encoded": ("VAEEncode", {"pixels": ["shown", 0], "vae": ["vae", 0]}),
        "referred": ("ReferenceLatent", {"conditioning": ["guided", 0], "latent": ["encoded", 0]}),
    }
    nodes["sampled"][1]["positive"] = ["referred", 0]
    pipeline = FluxKontextPipeline(**flux_parts(made_texts))
    other = made(
        pipeline, image=pixels(), guidance_scale=2.5, max_area=WIDTH * HEIGHT, _auto_resize=False, **ASKED
    )  # fmt: skip
    agree(both(studio, nodes, shown=picture(WIDTH, HEIGHT)), other)


def test_flux_fill(studio: Studio, made_texts: dict[str, Any]) -> None:
    """ComfyUI paints the masked part grey, as diffusers does."""
    mask = torch.zeros(1, HEIGHT, WIDTH)
    mask[:, 16:43, 24:85] = 1
    nodes = flux_nodes("fill.safetensors", guidance=30.0)
    nodes |= {
        "shown": ("GivenIMAGE", {"name": "shown"}),
        "mask": ("GivenMASK", {"name": "mask"}),
        "beside": ("InpaintModelConditioning", {
            "positive": ["guided", 0], "negative": ["negative", 0], "vae": ["vae", 0], "pixels": ["shown", 0],
            "mask": ["mask", 0], "noise_mask": False,
        }),
    }  # fmt: skip
    nodes["sampled"][1].update(positive=["beside", 0], negative=["beside", 1])
    pipeline = FluxFillPipeline(**flux_parts(made_texts, FILL))
    other = made(pipeline, image=pixels(), mask_image=mask[:, None], guidance_scale=30.0, strength=1.0, **ASKED)
    agree(both(studio, nodes, shown=picture(WIDTH, HEIGHT), mask=mask), other)


def test_all_that_flux_is_told_makes_a_difference(studio: Studio) -> None:
    """So that the comparisons above would see it missing."""
    plain = studio.run(flux_nodes())
    for others in (flux_nodes(guidance=3.0), {**flux_nodes(), **texts(["clip", 0], "a photo of a dog")}):
        assert difference(studio.run(others), plain) > 1e-3
    vector = flux_nodes()
    vector["positive"] = ("CLIPTextEncodeFlux", {
        "clip": ["clip", 0], "clip_l": "a dog", "t5xxl": "a photo of a cat", "guidance": 2.5
    })  # fmt: skip
    assert difference(studio.run(vector), plain) > 1e-3


@pytest.mark.parametrize(("name", "size"), [("sd3", sd3.SD3), ("sd35_medium", sd3.MEDIUM)])
def test_stable_diffusion_3(name: str, size: sd3.Sd3Size, studio: Studio, made_texts: dict[str, Any]) -> None:
    """ComfyUI takes L's pooled vector as it is, as Stability's code does; diffusers projects it (by a unit matrix in
    the published files), and fills T5 up to 256 places where ComfyUI does to 77.
    """
    files = {"clip_name1": "l.safetensors", "clip_name2": "g.safetensors", "clip_name3": "t5.safetensors"}
    nodes = split(f"{name}.safetensors", "TripleCLIPLoader", files)
    left = text_encoders.clip("clip_l")
    nn.init.eye_(left.text_projection.weight)
    pipeline = StableDiffusion3Pipeline(
        transformer=sd3.network(size),
        scheduler=theirs.ToldFlow(walk(straight(3.0))),
        vae=theirs.vae(tiny.FLUX_VAE, 1.5305, 0.0609),
        text_encoder=left,
        tokenizer=theirs.tokenizer(),
        text_encoder_2=made_texts["g"],
        tokenizer_2=theirs.tokenizer("!"),
        text_encoder_3=made_texts["t5"],
        tokenizer_3=t5_ids(),
    )
    asked = {**theirs.PROMPTS, "latents": NOISE, "guidance_scale": 3.0, "max_sequence_length": 77}
    agree(both(studio, nodes), made(pipeline, **asked))


def test_z_image(studio: Studio, made_texts: dict[str, Any]) -> None:
    """Its scale of guidance counts from 0 in diffusers: 2 there is cfg 3 here."""
    nodes = split("z_image.safetensors", "CLIPLoader", {"clip_name": "qwen.safetensors", "type": "lumina2"})
    pipeline = ZImagePipeline(
        scheduler=theirs.ToldFlow(walk(straight(3.0, full=1.0))),
        vae=theirs.vae(tiny.FLUX_VAE, 0.3611, 0.1159),
        text_encoder=made_texts["qwen"],
        tokenizer=made_texts["qwen_ids"],
        transformer=z_image.network(),
    )
    asked = {"prompt": ["a cat"], "negative_prompt": ["user"], "latents": NOISE, "guidance_scale": 2.0}
    nodes |= texts(["clip", 0], "a cat", "user")
    agree(both(studio, nodes), made(pipeline, **asked))
