from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from limner.diffusion.levels import exponential_shift
from limner.errors import ModelFileError, UnfitInput
from limner.models.attention import sliced
from limner.models.families.flux import Flux
from limner.models.family import detect
from limner.models.files import ModelFolders
from limner.models.flow.flux import places
from limner.models.flow.flux_layout import flux_config, key_map
from limner.models.flow.tables import PREFIX
from limner.models.flow.tokens import into_tokens
from limner.models.library import ModelLibrary
from limner.models.lora.apply import add_lora
from limner.models.lora.names import encoder_names
from limner.models.lora.read import read_lora
from limner.models.model import Model
from limner.models.patches import Difference
from limner.models.residency import use
from tests.support.tiny import checkpoints
from tests.support.tiny.flux import DEV, FluxSize, config, keys, network, save_flux, save_flux_checkpoint
from tests.support.tiny.lora import low_rank, save_lora
from tests.unit.models.flows import CPU, diffusion_model, header_only
from tests.unit.nodes.calling import value

SIZES = {
    "dev": DEV,
    "schnell": replace(DEV, guidance=False),
    "fill": replace(DEV, channels=96),
    "led by edges": replace(DEV, channels=32),
    "wide heads": FluxSize(hidden=128, head=64, double=1, single=3),
}


def loaded(folder: Path, size: FluxSize = DEV, *, prefix: str = "") -> Model:
    save_flux(folder / "diffusion_models/a.safetensors", size, prefix=prefix)
    return diffusion_model(folder)


def asked(made: Any, x: Tensor, sigma: Tensor, context: Tensor, y: Tensor, guidance: Tensor | None, ids: Tensor) -> Any:
    """What diffusers' own forward answers, packed and unpacked as its pipelines do it."""
    batch, channels, height, width = x.shape
    rows = x.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return made(
        hidden_states=rows.reshape(batch, -1, channels * 4),
        timestep=sigma,
        guidance=guidance,
        pooled_projections=y,
        encoder_hidden_states=context,
        txt_ids=torch.zeros(context.shape[1], 3),
        img_ids=ids,
    ).sample


def ids_of(height: int, width: int, number: int = 0) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(height // 2), torch.arange(width // 2), indexing="ij")
    return torch.stack([torch.full_like(rows, number), rows, columns], dim=-1).reshape(-1, 3).float()


def unpacked(rows: Tensor, height: int, width: int) -> Tensor:
    squares = rows.view(len(rows), height // 2, width // 2, 16, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return squares.reshape(len(rows), 16, height, width)


def inputs(size: FluxSize = DEV, height: int = 8, width: int = 12) -> dict[str, Tensor]:
    made = torch.Generator().manual_seed(3)
    return {
        "x": torch.randn(2, 16, height, width, generator=made),
        "sigma": torch.tensor([0.9, 0.3]),
        "context": torch.randn(2, 7, size.context, generator=made),
        "y": torch.randn(2, size.vector, generator=made),
        "beside": torch.randn(2, size.channels - 16, height, width, generator=made),
    }


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_network_of_any_size_gives_what_diffusers_gives(size: FluxSize, tmp_path: Path) -> None:
    model, given = loaded(tmp_path, size), inputs(size)
    x, sigma, context, y = (given[name] for name in ("x", "sigma", "context", "y"))
    guidance = torch.tensor([3.5, 1.0]) if size.guidance else None
    with torch.inference_mode(), use(model):
        whole = torch.cat([x, given["beside"]], dim=1)
        flow = unpacked(asked(network(size), whole, sigma, context, y, guidance, ids_of(8, 12)), 8, 12)
        clean = model.model.apply_model(
            x, sigma, c_concat=given["beside"], c_crossattn=context, y=y, guidance=torch.tensor([3.5, 1.0])
        )
    assert torch.allclose(clean, x - sigma.view(2, 1, 1, 1) * flow, atol=1e-5)


def test_the_key_map_says_what_diffusers_converter_does() -> None:
    """Of a network of the real width, as the converter knows no other. Each row of each weight has its own number."""
    size = FluxSize(hidden=3072, head=128, double=1, single=1)
    with torch.device("meta"):
        weights = FluxTransformer2DModel(**config(size)).state_dict()
    rows = {name: torch.arange(len(each)) + 100_000 * number for number, (name, each) in enumerate(weights.items())}
    named = key_map(weights, config(size))
    converted = convert_flux_transformer_checkpoint_to_diffusers(
        {key.removeprefix(PREFIX): named.gather_from(rows.__getitem__, key) for key in named}
    )
    assert converted.keys() == rows.keys()
    assert all(torch.equal(converted[name], each) for name, each in rows.items())


@pytest.mark.parametrize(("channels", "guidance"), [(16, True), (16, False), (96, True), (32, True)])
def test_the_real_size_is_read_from_shapes_alone(channels: int, guidance: bool, tmp_path: Path) -> None:
    size = FluxSize(
        hidden=3072, head=128, double=19, single=38, context=4096, vector=768, channels=channels, guidance=guidance
    )
    with torch.device("meta"):
        weights = FluxTransformer2DModel(**config(size)).state_dict()
    named = key_map(weights, config(size))
    found = detect(header_only(named, weights, tmp_path))
    assert isinstance(found.family, Flux)
    assert flux_config(found.denoiser.header) == config(size)
    assert found.family.widths(config(size)) == (4096, 768, channels)
    assert found.family.levels(config(size)).high == pytest.approx(1.0)


def test_shift_is_that_of_the_kind(tmp_path: Path) -> None:
    dev, schnell = loaded(tmp_path / "dev"), loaded(tmp_path / "schnell", SIZES["schnell"])
    assert torch.equal(dev.model_sampling.levels.table, exponential_shift(1.15).table)
    assert torch.equal(schnell.model_sampling.levels.table, exponential_shift(0.0).table)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_file_may_have_a_prefix(prefix: str, tmp_path: Path) -> None:
    assert loaded(tmp_path, prefix=prefix).model.name == "a.safetensors"


def test_a_checkpoint_has_all_three_parts(tmp_path: Path) -> None:
    save_flux_checkpoint(tmp_path / "checkpoints/a.safetensors")
    model, clip, vae = ModelLibrary(ModelFolders([tmp_path]), CPU).checkpoint("a.safetensors")
    context, pooled = clip.read("a cat")
    assert model.model.context_width == context.shape[-1]
    assert pooled is not None
    assert model.model.adm_channels == pooled.shape[-1]
    assert vae.latents.channels == model.latent_format.channels == 16
    assert (vae.latents.scale, vae.latents.shift) == (0.3611, 0.1159)
    names, block = encoder_names(clip.module, clip.keys), "encoder.block.0.layer.0.SelfAttention.q"
    for style in (f"lora_te3_{block.replace('.', '_')}", f"text_encoder_2.{block}"):
        assert names[style].key == f"t5xxl.transformer.{block}"


def test_weights_in_eight_bits_run_wherever_they_were_loaded(tmp_path: Path) -> None:
    """A host loads in inference mode, and patches outside of it."""
    save_flux(tmp_path / "diffusion_models/a.safetensors")
    with torch.inference_mode():
        model = diffusion_model(tmp_path, weight_dtype="fp8_e4m3fn")
    bias = "diffusion_model.final_layer.adaLN_modulation.1.bias"
    model.add_weight_patches({bias: Difference(difference=torch.ones(128))})
    with use(model):
        assert answer(model, inputs()).isfinite().all()


def answer(model: Model, given: Mapping[str, Any], **conds: Any) -> Tensor:
    with torch.inference_mode(), use(model):
        return model.model.apply_model(given["x"], given["sigma"], c_crossattn=given["context"], y=given["y"], **conds)


def test_reference_pictures_stand_behind_the_latent_as_in_kontext(tmp_path: Path) -> None:
    model, given = loaded(tmp_path), inputs()
    reference = torch.randn(2, 16, 6, 4, generator=torch.Generator().manual_seed(8))
    x, sigma = given["x"], given["sigma"]
    packed = [into_tokens(each) for each in (x, reference)]
    with torch.inference_mode():
        flow = network()(
            hidden_states=torch.cat(packed, dim=1),
            timestep=sigma,
            guidance=torch.tensor([2.5, 2.5]),
            pooled_projections=given["y"],
            encoder_hidden_states=given["context"],
            txt_ids=torch.zeros(7, 3),
            img_ids=torch.cat([ids_of(8, 12), ids_of(6, 4, 1)]),
        ).sample[:, : packed[0].shape[1]]
    got = answer(model, given, guidance=torch.tensor([2.5, 2.5]), ref_latents=[reference])
    assert torch.allclose(got, x - sigma.view(2, 1, 1, 1) * unpacked(flow, 8, 12), atol=1e-5)


def test_a_walk_is_that_of_diffusers_pipeline(tmp_path: Path) -> None:
    made = torch.Generator().manual_seed(5)
    noise = torch.randn(1, 16, 8, 12, generator=made)
    context, pooled = torch.randn(1, 9, DEV.context, generator=made), torch.randn(1, DEV.vector, generator=made)
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=None,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=network(),
    )
    pipeline.set_progress_bar_config(disable=True)
    rows = pipeline(
        prompt_embeds=context,
        pooled_prompt_embeds=pooled,
        latents=into_tokens(noise),
        guidance_scale=2.5,
        height=64,
        width=96,
        num_inference_steps=4,
        output_type="latent",
    ).images
    model = loaded(tmp_path)
    text = value("FluxGuidance", conditioning=[[context, {"pooled_output": pooled}]], guidance=2.5)
    sampler = value("KSamplerSelect", sampler_name="euler")
    guider = value("BasicGuider", model=model, conditioning=text)
    ours = guider.sample(noise, torch.zeros_like(noise), sampler, pipeline.scheduler.sigmas, seed=0)
    assert torch.allclose(model.latent_format.into_network(ours), unpacked(rows, 8, 12), atol=1e-4)


def test_several_references_are_told_apart_by_place() -> None:
    edges, device = [(8, 12), (4, 8), (6, 4), (4, 4)], torch.device("cpu")
    for method in ("offset", "index", "uxo"):
        found = [tuple(each) for each in places(edges, method, device).int().tolist()]
        assert len(set(found)) == len(found) == 24 + 8 + 6 + 4, method
        assert found[:24] == [tuple(each) for each in ids_of(8, 12).int().tolist()]
    assert {each[0] for each in places(edges, "index", device).int().tolist()} == {0, 1, 2, 3}
    assert places(edges, "offset", device).amax(dim=0).tolist() == [1, 4, 5]
    assert places(edges, "uxo", device)[24:].amin(dim=0).tolist() == [0, 4, 6]
    assert places(edges, "uxo", device)[-1].tolist() == [0, 4 + 2 + 3 + 1, 6 + 4 + 2 + 1]


def test_odd_edges_are_filled_up(tmp_path: Path) -> None:
    model, given = loaded(tmp_path), inputs(height=7, width=5)
    around = torch.cat([given["x"], given["x"][..., :1, :]], dim=-2)
    around = torch.cat([around, around[..., :1]], dim=-1)
    whole = answer(model, {**given, "x": around})
    assert torch.allclose(answer(model, given), whole[..., :7, :5], atol=1e-6)


def test_guidance_counts_where_the_network_knows_it(tmp_path: Path) -> None:
    given = inputs()
    dev, schnell = loaded(tmp_path / "dev"), loaded(tmp_path / "schnell", SIZES["schnell"])
    strong, weak = torch.tensor([8.0, 8.0]), torch.tensor([1.0, 1.0])
    assert not torch.allclose(answer(dev, given, guidance=strong), answer(dev, given, guidance=weak))
    assert not torch.allclose(answer(dev, given, guidance=strong), answer(dev, given))
    assert torch.equal(answer(schnell, given, guidance=strong), answer(schnell, given))


def test_blocks_can_be_replaced_and_called_by_packs(tmp_path: Path) -> None:
    model, given = loaded(tmp_path), inputs()
    seen: list[tuple[str, ...]] = []

    def watched(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        seen.append(tuple(sorted(args)))
        made: dict[str, Any] = extra["original_block"](args)
        return made

    def skip(args: dict[str, Any], _extra: dict[str, Any]) -> dict[str, Any]:
        return args

    plain = answer(model, given)
    watch = {("double_block", 1): watched, ("single_block", 0): watched}
    assert torch.equal(answer(model, given, transformer_options={"patches_replace": {"dit": watch}}), plain)
    assert seen == [("attn_mask", "img", "pe", "txt", "vec"), ("attn_mask", "img", "pe", "vec")]
    for place in (("double_block", 1), ("single_block", 0)):
        without = answer(model, given, transformer_options={"patches_replace": {"dit": {place: skip}}})
        assert not torch.allclose(without, plain)


def test_attention_can_be_replaced_and_sliced(tmp_path: Path) -> None:
    model, given = loaded(tmp_path), inputs()
    plain, calls = answer(model, given), []

    def mine(function: Any, *args: Any, **told: Any) -> Tensor:
        calls.append(args[0].shape[1])
        told_out: Tensor = function(*args, **told)
        return told_out

    options = {"optimized_attention_override": mine}
    assert torch.equal(answer(model, given, transformer_options=options), plain)
    assert calls == [7 + 24] * 4
    with sliced(5):
        assert torch.allclose(answer(model, given), plain, atol=1e-5)


LORAS = {
    "lora_unet_double_blocks_0_img_attn_qkv": ("kohya", "double_blocks.0.img_attn.qkv", None, (192, 64)),
    "lora_unet_single_blocks_1_linear1": ("kohya", "single_blocks.1.linear1", None, (448, 64)),
    "diffusion_model.double_blocks.1.txt_mlp.0": ("diffusers", "double_blocks.1.txt_mlp.0", None, (256, 64)),
    "transformer.transformer_blocks.0.attn.to_k": ("diffusers", "double_blocks.0.img_attn.qkv", (64, 128), (64, 64)),
    "transformer.transformer_blocks.1.attn.add_v_proj": (
        *("diffusers", "double_blocks.1.txt_attn.qkv", (128, 192), (64, 64)),
    ),
    "transformer.single_transformer_blocks.0.proj_mlp": (
        *("diffusers", "single_blocks.0.linear1", (192, 448), (256, 64)),
    ),
    "lora_transformer_single_transformer_blocks_0_proj_out": ("kohya", "single_blocks.0.linear2", None, (64, 320)),
}


@pytest.mark.parametrize("name", LORAS)
def test_a_lora_reaches_the_right_rows_in_every_style(name: str, tmp_path: Path) -> None:
    style, key, rows, shape = LORAS[name]
    key = f"diffusion_model.{key}.weight"
    model = loaded(tmp_path)
    save_lora(tmp_path / "a.safetensors", {name: shape}, style=style, rank=2, alpha=None)
    before = model.weight(key).float()
    add_lora(
        read_lora(tmp_path / "a.safetensors"),
        *(model, None),
        model_name="a",
        strength_model=0.5,
        strength_clip=0.0,
        warn=lambda text: pytest.fail(text),
    )
    up, down = low_rank(shape, 2)
    with use(model):
        change = model.keys.gather(model.module, key) - before
    first, end = rows or (0, len(before))
    assert torch.allclose(change[first:end], 0.5 * up @ down, atol=1e-5)
    assert not change[:first].any()
    assert not change[end:].any()


def test_the_final_layer_is_patched_in_the_files_own_order(tmp_path: Path) -> None:
    """Its file has shift before scale, the module that runs has scale before shift."""
    model = loaded(tmp_path)
    key = "diffusion_model.final_layer.adaLN_modulation.1.weight"
    difference = torch.zeros(128, 64)
    difference[:64] = 1.0
    model.add_weight_patches({key: Difference(difference=difference)})
    before = network().norm_out.linear.weight
    with use(model):
        after = model.module.get_parameter("norm_out.linear.weight")
        assert torch.allclose(after[:64], before[:64])
        assert torch.allclose(after[64:], before[64:] + 1.0)


def facts(**more: Any) -> dict[str, Any]:
    noise = torch.zeros(1, 16, 8, 12)
    return {"cross_attn": torch.zeros(1, 7, 128), "noise": noise, "latent_image": noise, "denoise_mask": None, **more}


def conds(model: Model, **more: Any) -> dict[str, Any]:
    return {name: each.value for name, each in Flux().extra_conds(model.model, facts(**more)).items()}


def test_a_conditioning_tells_guidance_and_references(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    assert conds(model)["guidance"].tolist() == [3.5]
    assert conds(model, guidance=2.0)["guidance"].tolist() == [2.0]
    assert "guidance" not in conds(model, guidance=None)
    reference = torch.randn(1, 16, 4, 4)
    told = conds(model, reference_latents=[reference], reference_latents_method="index")
    assert torch.allclose(told["ref_latents"][0], (reference - 0.1159) * 0.3611)
    assert told["ref_latents_method"] == "index"


def test_fill_is_shown_the_picture_and_each_pixel_of_the_mask(tmp_path: Path) -> None:
    model, picture = loaded(tmp_path, SIZES["fill"]), torch.randn(1, 16, 8, 12)
    mask = torch.zeros(1, 1, 64, 96)
    mask[..., 9, 18] = 1.0  # row 1 and column 2 of place (1, 2)
    beside = conds(model, concat_latent_image=picture, concat_mask=mask)["c_concat"]
    assert torch.allclose(beside[:, :16], (picture - 0.1159) * 0.3611)
    assert beside[:, 16:].nonzero().tolist() == [[0, 1 * 8 + 2, 1, 2]]
    assert conds(model)["c_concat"][:, 16:].all()
    led = loaded(tmp_path / "led", SIZES["led by edges"])
    assert conds(led, concat_latent_image=picture)["c_concat"].shape == (1, 16, 8, 12)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"cross_attn": torch.zeros(1, 77, 768)}, r"shape \(1, 77, 768\).* takes \(batch, tokens, 128\)"),
        ({"cross_attn": None}, "shape none"),
        ({"pooled_output": torch.zeros(1, 1280)}, r"pooled vector has the shape \(1, 1280\)"),
        ({"reference_latents": [torch.zeros(1, 4, 8, 8)]}, "a reference latent has the shape .*VAE of Flux.1"),
    ],
)
def test_another_familys_conditioning_is_refused(more: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match=what):
        conds(loaded(tmp_path), **more)


def test_residuals_of_a_control_network_are_refused(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    with pytest.raises(UnfitInput, match="does not run"):
        answer(model, inputs(), control={"output": [torch.zeros(1)]})


def test_a_file_that_lacks_a_part_or_is_built_otherwise_says_so(tmp_path: Path) -> None:
    made = keys(network())
    for lost, what in (
        ("double_blocks.0.img_attn.qkv.weight", "lacks double_blocks.0.img_attn.qkv.weight"),
        ("final_layer.linear.weight", "has no usable tensor final_layer.linear.weight"),
    ):
        path = tmp_path / f"diffusion_models/{lost}.safetensors"
        checkpoints.save(path, {key: each for key, each in made.items() if key != lost})
        with pytest.raises(ModelFileError, match=what):
            diffusion_model(tmp_path, path.name)
    save_flux(tmp_path / "diffusion_models/odd.safetensors", replace(DEV, channels=20))
    with pytest.raises(ModelFileError, match="its tokens have 80 values"):
        diffusion_model(tmp_path, "odd.safetensors")
