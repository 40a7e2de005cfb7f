from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_z_image_transformer_checkpoint_to_diffusers
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from diffusers.pipelines.z_image.pipeline_z_image import ZImagePipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from limner.diffusion.levels import straight
from limner.errors import ModelFileError, UnfitInput
from limner.models.attention import sliced
from limner.models.families.z_image import ZImage
from limner.models.family import detect
from limner.models.flow.tables import PREFIX
from limner.models.flow.z_image_layout import key_map, z_image_config
from limner.models.lora.apply import add_lora
from limner.models.lora.read import read_lora
from limner.models.model import Model
from limner.models.residency import use
from tests.support.tiny import checkpoints
from tests.support.tiny.lora import low_rank, save_lora
from tests.support.tiny.z_image import Z_IMAGE, ZImageSize, config, keys, network, save_z_image
from tests.unit.models.flows import diffusion_model, header_only
from tests.unit.nodes.calling import value

SIZES = {
    "usual": Z_IMAGE,
    "wider than 256": ZImageSize(hidden=288, head=48, depth=1, refiners=2, context=40),
}


def loaded(folder: Path, size: ZImageSize = Z_IMAGE) -> Model:
    save_z_image(folder / "diffusion_models/a.safetensors", size)
    return diffusion_model(folder)


def inputs(size: ZImageSize = Z_IMAGE, height: int = 8, width: int = 12, tokens: int = 7) -> dict[str, Tensor]:
    made = torch.Generator().manual_seed(3)
    return {
        "x": torch.randn(2, 16, height, width, generator=made),
        "sigma": torch.tensor([0.9, 0.3]),
        "context": torch.randn(2, tokens, size.context, generator=made),
    }


def answer(model: Model, given: dict[str, Tensor], **conds: Any) -> Tensor:
    with torch.inference_mode(), use(model):
        return model.model.apply_model(given["x"], given["sigma"], c_crossattn=given["context"], **conds)


def theirs(made: Any, given: dict[str, Tensor]) -> Tensor:
    """The clean x that diffusers' own forward leads to, which is told how clean x is and answers the way to it."""
    with torch.inference_mode():
        pictures, texts = list(given["x"][:, :, None]), list(given["context"])
        (back,) = made(pictures, 1 - given["sigma"], texts, return_dict=False)
    return given["x"] + given["sigma"].view(-1, 1, 1, 1) * torch.stack(back).squeeze(2)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(("edges", "tokens"), [((8, 12), 7), ((16, 16), 32), ((10, 14), 45)])
def test_a_network_of_any_size_gives_what_diffusers_gives(
    size: ZImageSize, edges: tuple[int, int], tokens: int, tmp_path: Path
) -> None:
    given = inputs(size, *edges, tokens)
    assert torch.allclose(answer(loaded(tmp_path, size), given), theirs(network(size), given), atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 2.0])
def test_a_walk_is_that_of_diffusers_pipeline(scale: float, tmp_path: Path) -> None:
    """Its guidance 2 is a cfg of 3 here."""
    made = torch.Generator().manual_seed(5)
    noise = torch.randn(1, 16, 8, 8, generator=made)
    texts = [torch.randn(1, tokens, Z_IMAGE.context, generator=made) for tokens in (9, 35)]
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=None,
        text_encoder=None,
        tokenizer=None,
        transformer=network(),
    )
    pipeline.set_progress_bar_config(disable=True)
    latents = pipeline(
        prompt_embeds=[texts[0][0]],
        negative_prompt_embeds=[texts[1][0]],
        latents=noise,
        guidance_scale=scale,
        height=64,
        width=64,
        num_inference_steps=4,
        output_type="latent",
    ).images
    model = loaded(tmp_path)
    guider = value("CFGGuider", model=model, positive=[[texts[0], {}]], negative=[[texts[1], {}]], cfg=scale + 1)
    sampler = value("KSamplerSelect", sampler_name="euler")
    ours = guider.sample(noise, torch.zeros_like(noise), sampler, pipeline.scheduler.sigmas, seed=0)
    assert torch.allclose(model.latent_format.into_network(ours), latents, atol=1e-4)


def test_the_key_map_says_what_diffusers_converter_does() -> None:
    """Each row of each weight has its own number."""
    weights = network().state_dict()
    rows = {name: torch.arange(len(each)) + 100_000 * number for number, (name, each) in enumerate(weights.items())}
    named = key_map(weights, config(Z_IMAGE))
    file = {key.removeprefix(PREFIX): named.gather_from(rows.__getitem__, key) for key in named}
    converted = convert_z_image_transformer_checkpoint_to_diffusers(file)
    assert converted.keys() == rows.keys()
    assert all(torch.equal(converted[name], each) for name, each in rows.items())


def test_the_real_size_is_read_from_shapes_alone(tmp_path: Path) -> None:
    size = ZImageSize(hidden=3840, head=128, depth=30, refiners=2, context=2560)
    with torch.device("meta"):
        weights = ZImageTransformer2DModel(**config(size)).state_dict()
    found = detect(header_only(key_map(weights, config(size)), weights, tmp_path))
    assert isinstance(found.family, ZImage)
    assert z_image_config(found.denoiser.header) == config(size)
    assert found.family.widths(config(size)) == (2560, 0, 16)


def test_shift_is_3_and_a_level_is_its_own_timestep(tmp_path: Path) -> None:
    levels = loaded(tmp_path).model_sampling.levels
    assert torch.equal(levels.table, straight(3.0).table)
    assert levels.timestep(torch.tensor([0.4])).tolist() == pytest.approx([0.4])


def test_odd_edges_are_filled_up(tmp_path: Path) -> None:
    model, given = loaded(tmp_path), inputs(height=7, width=5)
    around = torch.cat([given["x"], given["x"][..., :1, :]], dim=-2)
    around = torch.cat([around, around[..., :1]], dim=-1)
    whole = answer(model, {**given, "x": around})
    assert torch.allclose(answer(model, given), whole[..., :7, :5], atol=1e-6)


def test_layers_and_attention_can_be_replaced_and_sliced(tmp_path: Path) -> None:
    model, given = loaded(tmp_path), inputs()
    plain, calls = answer(model, given), []

    def skip(args: dict[str, Any], _extra: dict[str, Any]) -> dict[str, Any]:
        return args

    def mine(function: Any, *args: Any, **told: Any) -> Tensor:
        calls.append(args[0].shape[1])
        seen: Tensor = function(*args, **told)
        return seen

    replaced = {"patches_replace": {"dit": {("double_block", 1): skip}}}
    assert not torch.allclose(answer(model, given, transformer_options=replaced), plain)
    assert torch.equal(answer(model, given, transformer_options={"optimized_attention_override": mine}), plain)
    assert calls == [32, 32, 64, 64]
    with sliced(5):
        assert torch.allclose(answer(model, given), plain, atol=1e-5)


LORAS = {
    "lora_unet_layers_0_attention_qkv": ("kohya", "layers.0.attention.qkv", None, (288, 96)),
    "diffusion_model.layers.1.feed_forward.w2": ("diffusers", "layers.1.feed_forward.w2", None, (96, 256)),
    "diffusion_model.layers.0.attention.to_v": ("diffusers", "layers.0.attention.qkv", (192, 288), (96, 96)),
    "transformer.layers.1.attention.to_k": ("diffusers", "layers.1.attention.qkv", (96, 192), (96, 96)),
    "transformer.context_refiner.0.attention.to_out.0": (
        *("diffusers", "context_refiner.0.attention.out", None, (96, 96)),
    ),
}


@pytest.mark.parametrize("name", LORAS)
def test_a_lora_reaches_the_right_rows_in_every_style(name: str, tmp_path: Path) -> None:
    style, key, rows, shape = LORAS[name]
    key = f"diffusion_model.{key}.weight"
    model = loaded(tmp_path)
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


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (inputs(height=2, width=1026), "1026x2 places is too large: this model knows up to 1024x1024"),
        (inputs(height=2, width=2, tokens=1510), "a prompt of 1536 tokens is too long"),
    ],
)
def test_what_is_beyond_the_known_places_is_refused(given: dict[str, Tensor], what: str, tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match=what):
        answer(loaded(tmp_path), given)


def test_another_familys_conditioning_is_refused(tmp_path: Path) -> None:
    facts = {"cross_attn": torch.zeros(1, 77, 768), "noise": torch.zeros(1, 16, 8, 8)}
    with pytest.raises(UnfitInput, match=r"\(Z-Image\) takes \(batch, tokens, 64\)"):
        ZImage().extra_conds(loaded(tmp_path).model, facts)


def test_a_file_that_lacks_a_part_says_which(tmp_path: Path) -> None:
    lost = "layers.1.feed_forward.w3.weight"
    kept = {key: each for key, each in keys(network()).items() if key != lost}
    checkpoints.save(tmp_path / "diffusion_models/a.safetensors", kept)
    with pytest.raises(ModelFileError, match=f"transformer is not complete .* lacks {lost}"):
        diffusion_model(tmp_path)
