"""Stable Diffusion 1, 2 and XL: pictures from text, from pictures, and into pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import StableDiffusionImg2ImgPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint import StableDiffusionInpaintPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_instruct_pix2pix import (
    StableDiffusionInstructPix2PixPipeline,
)
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img import (
    StableDiffusionXLImg2ImgPipeline,
)
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_inpaint import (
    StableDiffusionXLInpaintPipeline,
)
from torch import Tensor

from tests.parity.studio import (
    SAMPLING,
    Nodes,
    Studio,
    agree,
    classic,
    latents,
    picture,
    start,
    texts,
)
from tests.parity.theirs import SD_SCALE, SDXL_SCALE, SIZE, levels, made, sd_parts, xl_parts
from tests.support.tiny import checkpoints as tiny

pytestmark = pytest.mark.slow

SAVES: dict[str, Callable[[Path], Path]] = {
    "sd15": tiny.save_sd15,
    "sd15_inpaint": tiny.save_sd15_inpaint,
    "sd15_editing": tiny.save_sd15_editing,
    "sd2_v": tiny.save_sd2_v,
    "sdxl": tiny.save_sdxl,
    "sdxl_inpaint": tiny.save_sdxl_inpaint,
    "refiner": tiny.save_sdxl_refiner,
}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    root = tmp_path_factory.mktemp("models")
    for name, save in SAVES.items():
        save(root / f"checkpoints/{name}.safetensors")
    return Studio(root)


def both(studio: Studio, nodes: Nodes, **given: Any) -> tuple[Tensor, Tensor]:
    """Latent and pictures of one workflow."""
    return studio.run(latents(nodes), **given)["samples"], studio.run(nodes, **given)


def test_sd15_text_to_picture(studio: Studio) -> None:
    theirs = made(StableDiffusionPipeline(**sd_parts(tiny.SD15, levels())), latents=start(), **SIZE)
    agree(both(studio, classic("sd15.safetensors")), theirs)


def test_sd15_at_72x104_pixels_in_a_batch(studio: Studio) -> None:
    nodes = classic("sd15.safetensors", width=72, height=104, batch=2)
    pipeline = StableDiffusionPipeline(**sd_parts(tiny.SD15, levels()))
    theirs = made(
        pipeline, latents=start(72, 104, batch=2), width=72, height=104,
        prompt=["a photo of a cat"] * 2, negative_prompt=["blurry, dark"] * 2,
    )  # fmt: skip
    agree(both(studio, nodes), theirs)


def test_sd15_with_the_layer_before_the_last(studio: Studio) -> None:
    nodes = classic("sd15.safetensors")
    nodes["skip"] = ("CLIPSetLastLayer", {"clip": ["model", 1], "stop_at_clip_layer": -2})
    nodes |= texts(["skip", 0])
    theirs = made(StableDiffusionPipeline(**sd_parts(tiny.SD15, levels(), skip=1)), latents=start(), **SIZE)
    agree(both(studio, nodes), theirs)


def test_sd15_with_a_prompt_of_two_sections(studio: Studio) -> None:
    """diffusers cuts a prompt off at 77 tokens; here its encoder is given two sections, and the short negative twice,
    which attention does not mind.
    """
    words = ", ".join(["a photo of a red house", "an old tree on a hill"] * 8)
    pipeline = StableDiffusionPipeline(**sd_parts(tiny.SD15, levels()))
    ids = pipeline.tokenizer(words).input_ids[1:-1]
    assert 75 < len(ids) <= 150
    sections = [[49406, *part, 49407, *[49407] * (75 - len(part))] for part in (ids[:75], ids[75:])]
    with torch.inference_mode():
        long = pipeline.text_encoder(torch.tensor(sections))[0].reshape(1, 154, -1)
        short, _ = pipeline.encode_prompt("blurry, dark", "cpu", 1, False)
    theirs = made(
        pipeline, prompt=None, negative_prompt=None, prompt_embeds=long, negative_prompt_embeds=short.repeat(1, 2, 1),
        latents=start(), **SIZE,
    )  # fmt: skip
    agree(both(studio, classic("sd15.safetensors") | texts(["model", 1], words)), theirs)


def test_sd2_with_v(studio: Studio) -> None:
    parts = sd_parts(tiny.SD2, levels(), text="clip_h", skip=1, pad="!", kind="v_prediction")
    theirs = made(StableDiffusionPipeline(**parts), latents=start(), **SIZE)
    agree(both(studio, classic("sd2_v.safetensors")), theirs)


def test_sdxl(studio: Studio) -> None:
    theirs = made(StableDiffusionXLPipeline(**xl_parts(tiny.SDXL, levels())), latents=start(), **SIZE)
    agree(both(studio, classic("sdxl.safetensors")), theirs)


def test_sdxl_with_an_empty_negative_prompt(studio: Studio) -> None:
    nodes = classic("sdxl.safetensors") | texts(["model", 1], negative="")
    pipeline = StableDiffusionXLPipeline(**xl_parts(tiny.SDXL, levels()))
    agree(both(studio, nodes), made(pipeline, latents=start(), negative_prompt="", **SIZE))


def test_sdxl_told_of_sizes_and_cuts(studio: Studio) -> None:
    nodes = classic("sdxl.safetensors")
    told = {"width": 1000, "height": 900, "crop_w": 30, "crop_h": 20, "target_width": 800, "target_height": 700}
    for side, words in (("positive", "a photo of a cat"), ("negative", "blurry, dark")):
        nodes[side] = ("CLIPTextEncodeSDXL", {"clip": ["model", 1], **told, "text_g": words, "text_l": words})
    pipeline = StableDiffusionXLPipeline(**xl_parts(tiny.SDXL, levels()))
    theirs = made(
        pipeline, latents=start(), original_size=(900, 1000), crops_coords_top_left=(20, 30), target_size=(700, 800),
        **SIZE,
    )  # fmt: skip
    agree(both(studio, nodes), theirs)
    plain = both(studio, classic("sdxl.safetensors"))
    assert float((plain[0] - theirs[0]).abs().max()) > 1e-3  # sizes make a difference


def test_the_refiner_takes_a_latent_up(studio: Studio) -> None:
    """Its scores of beauty, 6 and 2.5, are defaults of either."""
    half = torch.randn(1, 4, 7, 9, generator=torch.Generator().manual_seed(1))
    nodes = classic("refiner.safetensors", steps=3, denoise=0.5)
    nodes["latent"] = ("GivenLATENT", {"name": "half"})
    parts = {**xl_parts(tiny.REFINER, levels(3, denoise=0.5)), "text_encoder": None, "tokenizer": None}
    pipeline = StableDiffusionXLImg2ImgPipeline(**parts, requires_aesthetics_score=True)
    theirs = made(pipeline, image=half * SDXL_SCALE, strength=1.0, original_size=(56, 72), target_size=(56, 72))
    agree(both(studio, nodes, half={"samples": half}), theirs)


def from_picture(checkpoint: str, **sampling: Any) -> Nodes:
    nodes = classic(checkpoint, **sampling)
    nodes["picture_in"] = ("GivenIMAGE", {"name": "shown"})
    nodes["latent"] = ("VAEEncode", {"pixels": ["picture_in", 0], "vae": ["model", 2]})
    return nodes


def pixels() -> Tensor:
    """The picture as pipelines take it."""
    return picture().movedim(-1, 1)


def test_sd15_picture_to_picture(studio: Studio) -> None:
    nodes = from_picture("sd15.safetensors", denoise=0.6)
    pipeline = StableDiffusionImg2ImgPipeline(**sd_parts(tiny.SD15, levels(denoise=0.6)))
    agree(both(studio, nodes, shown=picture()), made(pipeline, image=pixels(), strength=1.0))


def test_sdxl_picture_to_picture(studio: Studio) -> None:
    nodes = from_picture("sdxl.safetensors", denoise=0.6)
    pipeline = StableDiffusionXLImg2ImgPipeline(**xl_parts(tiny.SDXL, levels(denoise=0.6)))
    agree(both(studio, nodes, shown=picture()), made(pipeline, image=pixels(), strength=1.0))


def mask() -> Tensor:
    """Whole places (8x8 pixels), so that it makes no difference how a mask is made smaller."""
    made = torch.zeros(1, 56, 72)
    made[:, 16:48, 24:] = 1
    return made


def inpainted(checkpoint: str, *, noise_mask: bool) -> Nodes:
    nodes = from_picture(checkpoint)
    nodes["mask"] = ("GivenMASK", {"name": "mask"})
    nodes["shown"] = ("InpaintModelConditioning", {
        "positive": ["positive", 0], "negative": ["negative", 0], "vae": ["model", 2], "pixels": ["picture_in", 0],
        "mask": ["mask", 0], "noise_mask": noise_mask,
    })  # fmt: skip
    nodes["zero"] = ("EmptyLatentImage", {"width": 72, "height": 56, "batch_size": 1})
    nodes["sampled"] = ("KSampler", {
        "model": ["model", 0], "positive": ["shown", 0], "negative": ["shown", 1], "latent_image": ["zero", 0],
        **SAMPLING,
    })  # fmt: skip
    return nodes


def test_sd15_for_inpainting(studio: Studio) -> None:
    """9 channels. Both begin with noise alone; diffusers does so at full strength."""
    pipeline = StableDiffusionInpaintPipeline(**sd_parts(replace(tiny.SD15, inputs=9), levels()))
    theirs = made(pipeline, image=pixels(), mask_image=mask()[:, None], latents=start(), strength=1.0, **SIZE)
    agree(both(studio, inpainted("sd15_inpaint.safetensors", noise_mask=False), shown=picture(), mask=mask()), theirs)


def test_sdxl_for_inpainting(studio: Studio) -> None:
    pipeline = StableDiffusionXLInpaintPipeline(**xl_parts(replace(tiny.SDXL, inputs=9), levels()))
    theirs = made(pipeline, image=pixels(), mask_image=mask()[:, None], latents=start(), strength=1.0, **SIZE)
    agree(both(studio, inpainted("sdxl_inpaint.safetensors", noise_mask=False), shown=picture(), mask=mask()), theirs)


def test_sd15_paints_within_a_mask(studio: Studio) -> None:
    """A model of 4 channels: what is kept gets the right noise before each step, in either."""
    nodes = from_picture("sd15.safetensors", denoise=0.6)
    nodes["mask"] = ("GivenMASK", {"name": "mask"})
    nodes["masked"] = ("SetLatentNoiseMask", {"samples": ["latent", 0], "mask": ["mask", 0]})
    nodes["sampled"][1]["latent_image"] = ["masked", 0]
    one_more = [14.0, *levels(denoise=0.6)]  # which strength 0.8 leaves out: at strength 1 they forget the picture
    pipeline = StableDiffusionInpaintPipeline(**sd_parts(tiny.SD15, one_more))
    theirs = made(pipeline, image=pixels(), mask_image=mask()[:, None], strength=0.8, **SIZE)
    agree(both(studio, nodes, shown=picture(), mask=mask()), theirs)


def test_instructions_to_a_picture(studio: Studio) -> None:
    """InstructPix2Pix: 8 channels, and a scale each for text and picture."""
    nodes = from_picture("sd15_editing.safetensors")
    nodes["shown"] = ("InstructPixToPixConditioning", {
        "positive": ["positive", 0], "negative": ["negative", 0], "vae": ["model", 2], "pixels": ["picture_in", 0],
    })  # fmt: skip
    nodes |= {
        "guider": ("DualCFGGuider", {
            "model": ["model", 0], "cond1": ["shown", 0], "cond2": ["shown", 1], "negative": ["negative", 0],
            "cfg_conds": 3.0, "cfg_cond2_negative": 1.6, "style": "regular",
        }),
        "noise": ("RandomNoise", {"noise_seed": 7}),
        "sampler": ("KSamplerSelect", {"sampler_name": "euler"}),
        "sigmas": ("BasicScheduler", {"model": ["model", 0], "scheduler": "normal", "steps": 4, "denoise": 1.0}),
        "sampled": ("SamplerCustomAdvanced", {
            "noise": ["noise", 0], "guider": ["guider", 0], "sampler": ["sampler", 0], "sigmas": ["sigmas", 0],
            "latent_image": ["shown", 2],
        }),
    }  # fmt: skip
    pipeline = StableDiffusionInstructPix2PixPipeline(**sd_parts(replace(tiny.SD15, inputs=8), levels()))
    theirs = made(pipeline, image=pixels(), latents=start(), image_guidance_scale=1.6)
    agree(both(studio, nodes, shown=picture()), theirs)


def test_scales_of_the_latent_spaces_are_those_of_the_papers(studio: Studio) -> None:
    for name, scale in (("sd15", SD_SCALE), ("sdxl", SDXL_SCALE)):
        model, _, _ = studio.models.checkpoint(f"{name}.safetensors")
        assert model.latent_format.scale == pytest.approx(scale)
