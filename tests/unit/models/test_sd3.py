from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from limner.diffusion.levels import straight
from limner.errors import ModelFileError, UnfitInput
from limner.models.families.sd3 import Sd3
from limner.models.family import detect
from limner.models.files import ModelFolders
from limner.models.flow.sd3_layout import key_map, sd3_config
from limner.models.flow.tables import PREFIX
from limner.models.library import ModelLibrary
from limner.models.lora.apply import add_lora
from limner.models.lora.read import read_lora
from limner.models.model import Model
from limner.models.residency import use
from tests.support.tiny import checkpoints
from tests.support.tiny.lora import low_rank, save_lora
from tests.support.tiny.sd3 import MEDIUM, SD3, Sd3Size, config, keys, network, save_sd3, save_sd3_checkpoint
from tests.unit.models.flows import CPU, diffusion_model, header_only
from tests.unit.nodes.calling import value

SIZES = {"3.0": SD3, "3.5 medium": MEDIUM, "3.5 large": replace(SD3, norm=True, depth=2, hidden=192)}


def loaded(folder: Path, size: Sd3Size = SD3) -> Model:
    save_sd3(folder / "diffusion_models/a.safetensors", size)
    return diffusion_model(folder)


def inputs(height: int = 8, width: int = 12) -> dict[str, Tensor]:
    made = torch.Generator().manual_seed(3)
    return {
        "x": torch.randn(2, 16, height, width, generator=made),
        "sigma": torch.tensor([0.9, 0.3]),
        "context": torch.randn(2, 7, 128, generator=made),
        "y": torch.randn(2, 128, generator=made),
    }


def answer(model: Model, given: dict[str, Tensor], **conds: Any) -> Tensor:
    with torch.inference_mode(), use(model):
        return model.model.apply_model(given["x"], given["sigma"], c_crossattn=given["context"], y=given["y"], **conds)


def theirs(made: Any, given: dict[str, Tensor], **told: Any) -> Tensor:
    """The clean x that diffusers' own forward leads to."""
    x, sigma = given["x"], given["sigma"]
    with torch.inference_mode():
        flow = made(
            hidden_states=x,
            encoder_hidden_states=given["context"],
            pooled_projections=given["y"],
            timestep=sigma * 1000,
            **told,
        ).sample
    clean: Tensor = x - sigma.view(-1, 1, 1, 1) * flow
    return clean


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_network_of_any_size_gives_what_diffusers_gives(size: Sd3Size, tmp_path: Path) -> None:
    given = inputs()
    assert torch.allclose(answer(loaded(tmp_path, size), given), theirs(network(size), given), atol=1e-5)


def test_a_walk_is_that_of_diffusers_pipeline(tmp_path: Path) -> None:
    made = torch.Generator().manual_seed(5)
    noise = torch.randn(1, 16, 8, 8, generator=made)
    texts = [torch.randn(1, 9, SD3.context, generator=made) for _ in range(2)]
    vectors = [torch.randn(1, SD3.vector, generator=made) for _ in range(2)]
    pipeline = StableDiffusion3Pipeline(
        transformer=network(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=None,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    latents = pipeline(
        prompt_embeds=texts[0],
        negative_prompt_embeds=texts[1],
        pooled_prompt_embeds=vectors[0],
        negative_pooled_prompt_embeds=vectors[1],
        latents=noise,
        guidance_scale=4.0,
        height=64,
        width=64,
        num_inference_steps=4,
        output_type="latent",
    ).images
    model = loaded(tmp_path)
    told = [[[text, {"pooled_output": vector}]] for text, vector in zip(texts, vectors, strict=True)]
    guider = value("CFGGuider", model=model, positive=told[0], negative=told[1], cfg=4.0)
    sampler = value("KSamplerSelect", sampler_name="euler")
    ours = guider.sample(noise, torch.zeros_like(noise), sampler, pipeline.scheduler.sigmas, seed=0)
    assert torch.allclose(model.latent_format.into_network(ours), latents, atol=1e-4)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_the_key_map_says_what_diffusers_converter_does(size: Sd3Size) -> None:
    """Each row of each weight has its own number."""
    weights = network(size).state_dict()
    rows = {name: torch.arange(len(each)) + 100_000 * number for number, (name, each) in enumerate(weights.items())}
    named = key_map(weights, config(size))
    file = {key.removeprefix(PREFIX): named.gather_from(rows.__getitem__, key) for key in named}
    file["context_embedder.weight"] = file["context_embedder.weight"].reshape(-1, 1)
    converted = convert_sd3_transformer_checkpoint_to_diffusers(file)
    assert converted.keys() == rows.keys()
    assert all(torch.equal(converted[name].flatten(), each) for name, each in rows.items())


REAL = {
    "3.0 medium": Sd3Size(hidden=1536, depth=24, context=4096, vector=2048, edge=192),
    "3.5 medium": Sd3Size(hidden=1536, depth=24, context=4096, vector=2048, edge=384, dual=tuple(range(13)), norm=True),
    "3.5 large": Sd3Size(hidden=2432, depth=38, context=4096, vector=2048, edge=192, norm=True),
}


@pytest.mark.parametrize("size", REAL.values(), ids=REAL)
def test_the_real_size_is_read_from_shapes_alone(size: Sd3Size, tmp_path: Path) -> None:
    with torch.device("meta"):
        weights = SD3Transformer2DModel(**{**config(size), "pos_embed_max_size": 2}).state_dict()
    weights["pos_embed.pos_embed"] = torch.empty(1, size.edge**2, size.hidden, device="meta")
    found = detect(header_only(key_map(weights, config(size)), weights, tmp_path))
    assert isinstance(found.family, Sd3)
    assert sd3_config(found.denoiser.header) == config(size)
    assert found.family.widths(config(size)) == (4096, 2048, 16)


def test_shift_is_3(tmp_path: Path) -> None:
    assert torch.equal(loaded(tmp_path).model_sampling.levels.table, straight(3.0).table)


@pytest.mark.parametrize("with_t5", [True, False])
def test_a_checkpoint_has_all_its_parts_and_may_lack_t5(with_t5: bool, tmp_path: Path) -> None:
    save_sd3_checkpoint(tmp_path / "checkpoints/a.safetensors", with_t5=with_t5)
    model, clip, vae = ModelLibrary(ModelFolders([tmp_path]), CPU).checkpoint("a.safetensors")
    context, pooled = clip.read("a cat")
    assert pooled is not None
    assert pooled.shape[-1] == model.model.adm_channels
    assert context.shape[-1] == (model.model.context_width if with_t5 else 4096)
    assert (vae.latents.scale, vae.latents.shift) == (1.5305, 0.0609)


def test_odd_edges_are_filled_up(tmp_path: Path) -> None:
    model, given = loaded(tmp_path), inputs(height=7, width=5)
    around = torch.cat([given["x"], given["x"][..., :1, :]], dim=-2)
    around = torch.cat([around, around[..., :1]], dim=-1)
    whole = answer(model, {**given, "x": around})
    assert torch.allclose(answer(model, given), whole[..., :7, :5], atol=1e-6)


def test_a_latent_beyond_the_known_places_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match="40x8 places is too large: this model knows up to 32x32"):
        answer(loaded(tmp_path), inputs(8, 40))


def test_skipping_layers_is_what_diffusers_means_by_it(tmp_path: Path) -> None:
    given = inputs()

    def skip(args: dict[str, Any], _extra: dict[str, Any]) -> dict[str, Any]:
        return args

    options = {"patches_replace": {"dit": {("double_block", number): skip for number in (0, 1)}}}
    skipped = answer(loaded(tmp_path, MEDIUM), given, transformer_options=options)
    assert torch.allclose(skipped, theirs(network(MEDIUM), given, skip_layers=[0, 1]), atol=1e-5)


def test_skip_layer_guidance_leads_away_from_the_answer_without_these_layers(tmp_path: Path) -> None:
    """During its part of the way: levels from 0.97 to 0.5 are the first 0.092 to 0.75 of it at shift 3."""
    model, given = loaded(tmp_path, MEDIUM), inputs()
    x, text = given["x"][:1], [[given["context"][:1], {"pooled_output": given["y"][:1]}]]
    changed = value("SkipLayerGuidanceSD3", model=model, layers="0, 1", scale=2.0, start_percent=0.1, end_percent=0.75)

    def step(user: Model, level: float) -> Tensor:
        sigmas = torch.tensor([level, 0.0])
        sampler, noise = value("KSamplerSelect", sampler_name="euler"), torch.zeros_like(x)
        latent = {"samples": model.latent_format.out_of_network(x / (1 - level))}
        guider = value("CFGGuider", model=user, positive=text, negative=text, cfg=1.0)
        made = guider.sample(noise, latent["samples"], sampler, sigmas, seed=0)
        return model.latent_format.into_network(made)

    level = 0.9
    clean = step(model, level)
    one = {**given, "x": x, "sigma": torch.tensor([level]), "context": given["context"][:1], "y": given["y"][:1]}
    assert torch.allclose(clean, theirs(network(MEDIUM), one), atol=1e-4)
    without = theirs(network(MEDIUM), one, skip_layers=[0, 1])
    assert torch.allclose(step(changed, level), clean + 2.0 * (clean - without), atol=1e-4)
    assert torch.equal(step(changed, 0.3), step(model, 0.3))


LORAS = {
    "lora_unet_joint_blocks_0_x_block_attn_qkv": ("kohya", "joint_blocks.0.x_block.attn.qkv", None, (384, 128)),
    "diffusion_model.joint_blocks.1.context_block.mlp.fc1": (
        *("diffusers", "joint_blocks.1.context_block.mlp.fc1", None, (512, 128)),
    ),
    "transformer.transformer_blocks.0.attn.to_v": (
        *("diffusers", "joint_blocks.0.x_block.attn.qkv", (256, 384), (128, 128)),
    ),
    "transformer.transformer_blocks.1.attn.add_q_proj": (
        *("diffusers", "joint_blocks.1.context_block.attn.qkv", (0, 128), (128, 128)),
    ),
    "transformer.transformer_blocks.1.attn2.to_out.0": (
        *("diffusers", "joint_blocks.1.x_block.attn2.proj", None, (128, 128)),
    ),
}


@pytest.mark.parametrize("name", LORAS)
def test_a_lora_reaches_the_right_rows_in_every_style(name: str, tmp_path: Path) -> None:
    style, key, rows, shape = LORAS[name]
    key = f"diffusion_model.{key}.weight"
    model = loaded(tmp_path, MEDIUM)
    save_lora(tmp_path / "a.safetensors", {name: shape}, style=style, rank=2, alpha=None)
    before = model.weight(key).float()
    lora = read_lora(tmp_path / "a.safetensors")
    add_lora(lora, model, None, model_name="a", strength_model=0.5, strength_clip=0.0, warn=pytest.fail)
    up, down = low_rank(shape, 2)
    with use(model):
        change = model.keys.gather(model.module, key) - before
    first, end = rows or (0, len(before))
    assert torch.allclose(change[first:end], 0.5 * up @ down, atol=1e-5)
    assert not change[:first].any()
    assert not change[end:].any()


def test_another_familys_conditioning_is_refused(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    facts = {"cross_attn": torch.zeros(1, 77, 64), "noise": torch.zeros(1, 16, 8, 8)}
    with pytest.raises(UnfitInput, match=r"takes \(batch, tokens, 128\)"):
        Sd3().extra_conds(model.model, facts)
    told = {**facts, "cross_attn": torch.zeros(1, 77, 128), "pooled_output": torch.zeros(1, 64)}
    with pytest.raises(UnfitInput, match="pooled vector"):
        Sd3().extra_conds(model.model, told)


def test_a_file_that_lacks_a_part_says_which(tmp_path: Path) -> None:
    lost = "joint_blocks.2.x_block.mlp.fc2.weight"
    kept = {key: each for key, each in keys(network()).items() if key != lost}
    checkpoints.save(tmp_path / "diffusion_models/a.safetensors", kept)
    with pytest.raises(ModelFileError, match=f"transformer is not complete .* lacks {lost}"):
        diffusion_model(tmp_path)
