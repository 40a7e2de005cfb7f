"""What is put on top of a model: control networks, LoRAs, learned words, pictures beside the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.pipelines.controlnet.pipeline_controlnet import StableDiffusionControlNetPipeline
from diffusers.pipelines.controlnet.pipeline_controlnet_sd_xl import StableDiffusionXLControlNetPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_unclip_img2img import StableUnCLIPImg2ImgPipeline
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limner.models.clip_vision import CLIP_MEAN, CLIP_STD
from tests.parity.studio import Nodes, Studio, agree, classic, latents, picture, start, texts
from tests.parity.theirs import SIZE, halved, levels, made, sd_parts, xl_parts
from tests.support.tiny import checkpoints as tiny
from tests.support.tiny import controlnet, lora, vision

pytestmark = pytest.mark.slow

WORD = "embeddings/word.safetensors"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    root = tmp_path_factory.mktemp("models")
    tiny.save_sd15(root / "checkpoints/sd15.safetensors")
    tiny.save_sdxl(root / "checkpoints/sdxl.safetensors")
    tiny.save_sd2_unclip(root / "checkpoints/unclip.safetensors")
    controlnet.save_controlnet(root / "controlnet/sd15.safetensors")
    controlnet.save_controlnet(root / "controlnet/sdxl.safetensors", controlnet.SDXL, layout="diffusers")
    lora.save_lora(root / "loras/sd15.safetensors", alpha=2.0)
    lora.save_lora(root / "loras/other.safetensors", style="diffusers", alpha=None, seed=9, shapes={
        "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.2": (128, 512)
    })  # fmt: skip
    (root / "embeddings").mkdir()
    save_file({"emb_params": torch.randn(2, 64, generator=torch.Generator().manual_seed(5))}, root / WORD)
    return Studio(root)


def both(studio: Studio, nodes: Nodes, **given: Any) -> tuple[Tensor, Tensor]:
    """Latent and pictures of one workflow."""
    return studio.run(latents(nodes), **given)["samples"], studio.run(nodes, **given)


def controlled(checkpoint: str, network: str, **told: Any) -> Nodes:
    nodes = classic(f"{checkpoint}.safetensors")
    nodes |= {
        "shown": ("GivenIMAGE", {"name": "shown"}),
        "network": ("ControlNetLoader", {"control_net_name": f"{network}.safetensors"}),
        "controlled": ("ControlNetApplyAdvanced", {
            "positive": ["positive", 0], "negative": ["negative", 0], "control_net": ["network", 0],
            "image": ["shown", 0], "strength": 0.7, "start_percent": 0.0, "end_percent": 1.0, **told,
        }),
    }  # fmt: skip
    nodes["sampled"][1].update(positive=["controlled", 0], negative=["controlled", 1])
    return nodes


def pixels() -> Tensor:
    return picture().movedim(-1, 1)


def test_a_control_network_for_sd15(studio: Studio) -> None:
    nodes = controlled("sd15", "sd15")
    pipeline = StableDiffusionControlNetPipeline(**sd_parts(tiny.SD15, levels()), controlnet=controlnet.controlnet())
    other = made(pipeline, image=pixels(), controlnet_conditioning_scale=0.7, latents=start(), **SIZE)
    agree(both(studio, nodes, shown=picture()), other)
    plain = studio.run(classic("sd15.safetensors"))
    assert float((plain - other[1]).abs().max()) > 1e-3


def test_two_control_networks_at_once(studio: Studio) -> None:
    nodes = controlled("sd15", "sd15", strength=0.4)
    nodes["second"] = ("ControlNetApplyAdvanced", {
        **controlled("sd15", "sd15", strength=0.9)["controlled"][1],
        "positive": ["controlled", 0], "negative": ["controlled", 1],
    })  # fmt: skip
    nodes["sampled"][1].update(positive=["second", 0], negative=["second", 1])
    networks = [controlnet.controlnet(), controlnet.controlnet()]
    pipeline = StableDiffusionControlNetPipeline(**sd_parts(tiny.SD15, levels()), controlnet=networks)
    other = made(
        pipeline, image=[pixels(), pixels()], controlnet_conditioning_scale=[0.4, 0.9], latents=start(), **SIZE
    )  # fmt: skip
    agree(both(studio, nodes, shown=picture()), other)


def test_a_control_network_for_a_part_of_the_way(studio: Studio) -> None:
    """Ranges are told in timesteps here and in steps in diffusers; this one covers the first two of four in both."""
    nodes = controlled("sd15", "sd15", end_percent=0.5)
    pipeline = StableDiffusionControlNetPipeline(**sd_parts(tiny.SD15, levels()), controlnet=controlnet.controlnet())
    other = made(
        pipeline, image=pixels(), controlnet_conditioning_scale=0.7, control_guidance_end=0.5, latents=start(), **SIZE
    )  # fmt: skip
    agree(both(studio, nodes, shown=picture()), other)


def test_a_control_network_for_sdxl(studio: Studio) -> None:
    own = controlnet.controlnet(controlnet.SDXL)
    network = ControlNetModel(**{
        **controlnet.SDXL, "class_embed_type": None, "addition_embed_type": "text_time", "addition_time_embed_dim": 256
    })  # fmt: skip
    weights = own.state_dict()
    network.load_state_dict({key.replace("class_embedding.", "add_embedding."): w for key, w in weights.items()})
    pipeline = StableDiffusionXLControlNetPipeline(**xl_parts(tiny.SDXL, levels()), controlnet=network.eval())
    other = made(
        pipeline, image=pixels(), controlnet_conditioning_scale=0.7, latents=start(), original_size=(56, 72),
        target_size=(56, 72), **SIZE,
    )  # fmt: skip
    agree(both(studio, controlled("sdxl", "sdxl"), shown=picture()), other)


MODULES = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (
        "unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    ),
    "lora_unet_mid_block_resnets_0_conv1": ("unet", "mid_block.resnets.0.conv1"),
    "lora_te_text_model_encoder_layers_0_mlp_fc1": ("text_encoder", "encoder.layers.0.mlp.fc1"),
    "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.2": (
        "unet", "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
    ),
}  # fmt: skip


def merge(parts: dict[str, Any], path: Path, strengths: dict[str, float]) -> None:
    """W + strength * alpha / rank * up @ down. Hu et al. 2021, arXiv:2106.09685, section 4.1."""
    told = load_file(path)
    for name, (part, place) in MODULES.items():
        for up_end, down_end in lora.ENDS.values():
            if f"{name}{up_end}" not in told:
                continue
            up, down = told[f"{name}{up_end}"], told[f"{name}{down_end}"]
            weight: nn.Parameter = parts[part].get_submodule(place).weight
            alpha = float(told.get(f"{name}.alpha", torch.tensor(float(len(down)))))
            change = (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
            weight.data += strengths[part] * alpha / len(down) * change


def test_loras_upon_each_other(studio: Studio) -> None:
    nodes = classic("sd15.safetensors")
    nodes["first"] = ("LoraLoader", {
        "model": ["model", 0], "clip": ["model", 1], "lora_name": "sd15.safetensors", "strength_model": 0.8,
        "strength_clip": 0.5,
    })  # fmt: skip
    nodes["second"] = ("LoraLoaderModelOnly", {
        "model": ["first", 0], "lora_name": "other.safetensors", "strength_model": -0.6
    })  # fmt: skip
    nodes |= texts(["first", 1])
    nodes["sampled"][1].update(model=["second", 0])
    parts = sd_parts(tiny.SD15, levels())
    merge(parts, studio.folder / "loras/sd15.safetensors", {"unet": 0.8, "text_encoder": 0.5})
    merge(parts, studio.folder / "loras/other.safetensors", {"unet": -0.6, "text_encoder": 0.0})
    other = made(StableDiffusionPipeline(**parts), latents=start(), **SIZE)
    agree(both(studio, nodes), other)
    plain = studio.run(classic("sd15.safetensors"))
    assert float((plain - other[1]).abs().max()) > 1e-3


def test_a_learned_word(studio: Studio) -> None:
    nodes = classic("sd15.safetensors") | texts(["model", 1], "a photo of embedding:word on a hill", "dark")
    pipeline = StableDiffusionPipeline(**sd_parts(tiny.SD15, levels()))
    pipeline.load_textual_inversion(load_file(studio.folder / WORD)["emb_params"], token="<word>")
    other = made(pipeline, prompt="a photo of <word> on a hill", negative_prompt="dark", latents=start(), **SIZE)
    agree(both(studio, nodes), other)


def test_a_learned_word_for_both_encoders_of_sdxl(studio: Studio) -> None:
    rows = torch.randn(2, 64, generator=torch.Generator().manual_seed(6))
    save_file({"clip_l": rows, "clip_g": 2 - rows}, studio.folder / "embeddings/xl.safetensors")
    nodes = classic("sdxl.safetensors") | texts(["model", 1], "a photo of embedding:xl on a hill", "dark")
    pipeline = StableDiffusionXLPipeline(**xl_parts(tiny.SDXL, levels()))
    for table, encoder, words in (
        (rows, pipeline.text_encoder, pipeline.tokenizer),
        (2 - rows, pipeline.text_encoder_2, pipeline.tokenizer_2),
    ):
        pipeline.load_textual_inversion(table, token="<xl>", text_encoder=encoder, tokenizer=words)
    other = made(pipeline, prompt="a photo of <xl> on a hill", negative_prompt="dark", latents=start(), **SIZE)
    agree(both(studio, nodes), other)


def test_a_picture_beside_the_text(studio: Studio) -> None:
    """Stable unCLIP. Noise on what was seen of the picture comes from the seed itself in either."""
    small = picture(56, 56)[:, :28, :28]
    nodes = classic("unclip.safetensors")
    nodes |= {
        "model": ("unCLIPCheckpointLoader", {"ckpt_name": "unclip.safetensors"}),
        "shown": ("GivenIMAGE", {"name": "shown"}),
        "seen": ("CLIPVisionEncode", {"clip_vision": ["model", 3], "image": ["shown", 0], "crop": "center"}),
        "beside": ("unCLIPConditioning", {
            "conditioning": ["positive", 0], "clip_vision_output": ["seen", 0], "strength": 1.0,
            "noise_augmentation": 0.1,
        }),
    }  # fmt: skip
    nodes["sampled"][1].update(positive=["beside", 0])
    parts = sd_parts(tiny.UNCLIP, levels(), text="clip_h", skip=1, pad="!", kind="v_prediction")
    normalizer = StableUnCLIPImageNormalizer(embedding_dim=64)
    normalizer.mean.data = torch.linspace(-0.1, 0.1, 64)[None].half().float()
    normalizer.std.data = torch.linspace(0.5, 1.5, 64)[None].half().float()
    pipeline = StableUnCLIPImg2ImgPipeline(
        **{key: parts[key] for key in ("vae", "text_encoder", "tokenizer", "unet", "scheduler", "feature_extractor")},
        image_encoder=halved(vision.clip_vision()),
        image_normalizer=normalizer.requires_grad_(False),
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    )
    mean, std = (torch.tensor(each).reshape(1, 3, 1, 1) for each in (CLIP_MEAN, CLIP_STD))
    noise = start() * (levels()[0] ** 2 + 1) ** 0.5  # this pipeline alone takes latents as they are
    other = made(pipeline, image=(small.movedim(-1, 1) - mean) / std, noise_level=100, latents=noise, **SIZE)
    agree(both(studio, nodes, shown=small), other)
    plain = studio.run(classic("unclip.safetensors"))
    assert float((plain - other[1]).abs().max()) > 1e-3
