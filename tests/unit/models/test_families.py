"""Every UNet family: told from its file, loaded whole, and given what it was trained with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, infer_diffusers_model_type
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from limner.diffusion.denoiser import Edm, Epsilon, Velocity
from limner.diffusion.levels import LogLevels
from limner.errors import ModelFileError, UnfitInput
from limner.models.augmentation import NoiseAugmentation
from limner.models.checkpoint import Header
from limner.models.device import Devices
from limner.models.family import detect
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.models.model import Model
from limner.models.residency import use
from limner.models.unet_layout import key_map, unet_config
from limner.models.weights import Weights
from tests.support.tiny import checkpoints as tiny
from tests.support.tiny import layout

CPU = Devices(device=torch.device("cpu"), half=None)

WHOLE = {
    "sd15": (tiny.save_sd15, tiny.SD15, "sd15", Epsilon),
    "sd15 inpainting": (tiny.save_sd15_inpaint, replace(tiny.SD15, inputs=9), "sd15", Epsilon),
    "sd15 editing": (tiny.save_sd15_editing, replace(tiny.SD15, inputs=8), "sd15", Epsilon),
    "sd2": (tiny.save_sd2_v, tiny.SD2, "sd2", Velocity),
    "unclip": (tiny.save_sd2_unclip, tiny.UNCLIP, "unclip", Velocity),
    "sdxl": (tiny.save_sdxl, tiny.SDXL, "sdxl", Epsilon),
    "sdxl inpainting": (tiny.save_sdxl_inpaint, replace(tiny.SDXL, inputs=9), "sdxl", Epsilon),
    "refiner": (tiny.save_sdxl_refiner, tiny.REFINER, "sdxl_refiner", Epsilon),
}


def library(root: Path) -> ModelLibrary:
    return ModelLibrary(ModelFolders([root]), CPU)


def facts(model: Model, **more: Any) -> dict[str, Any]:
    """What sampling tells a family, for two pictures of 16x8 places."""
    noise = torch.zeros(2, 4, 8, 16)
    base = {"cross_attn": torch.zeros(1, 77, model.model.context_width), "noise": noise, "denoise_mask": None}
    vector = torch.linspace(-1, 1, 64)[None]
    return {**base, "latent_image": noise, "prompt_type": "positive", "pooled_output": vector, "seed": 3, **more}


@pytest.mark.parametrize(("save", "size", "family", "predicts"), WHOLE.values(), ids=WHOLE)
def test_a_checkpoint_gives_the_networks_that_were_saved(
    save: Callable[[Path], Path], size: layout.Size, family: str, predicts: type, tmp_path: Path
) -> None:
    save(tmp_path / "checkpoints/a.safetensors")
    model, clip, vae = library(tmp_path).checkpoint("a.safetensors")
    made = layout.networks(size)
    base = model.model
    assert (base.architecture.name, base.in_channels, base.adm_channels) == (family, size.inputs, size.vector)
    assert type(model.model_sampling) is predicts

    x, context = torch.randn(2, size.inputs, 8, 8), torch.randn(2, 77, size.text_width)
    vector = torch.randn(2, size.vector) if size.vector else None
    with torch.inference_mode(), use(model):
        answer = base.architecture.forward(
            base, x, torch.tensor([400, 400]), context, control=None, transformer_options={}, y=vector
        )
        right = made.unet.half().float()(x, torch.tensor([400, 400]), context, class_labels=vector).sample
        assert torch.allclose(answer, right, atol=1e-5)
        picture = (made.vae.half().float().decode(x[:, :4]).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1)
        assert torch.allclose(vae.decode(x[:, :4]), picture, atol=1e-5)
    encoded, pooled = clip.read("a cat")
    assert encoded.shape == (1, 77, size.text_width)
    conds = base.architecture.extra_conds(base, facts(model, cross_attn=encoded, pooled_output=pooled))
    assert conds["c_crossattn"].value is encoded


BARE = {
    "sd15": (tiny.SD15, "sd15"),
    "sd2": (tiny.SD2, "sd2"),
    "unclip": (tiny.UNCLIP, "unclip"),
    "sdxl": (tiny.SDXL, "sdxl"),
    "refiner": (tiny.REFINER, "sdxl_refiner"),
}


@pytest.mark.parametrize("form", ["", "model.diffusion_model.", "diffusion_model.", "diffusers"])
@pytest.mark.parametrize(("size", "family"), BARE.values(), ids=BARE)
def test_a_denoiser_in_a_file_of_its_own_is_told_by_its_shapes(
    size: layout.Size, family: str, form: str, tmp_path: Path
) -> None:
    told = {"diffusers": True} if form == "diffusers" else {"prefix": form}
    tiny.save_unet(tmp_path / "unet/a.safetensors", size, **told)
    model = library(tmp_path).diffusion_model("a.safetensors")
    assert model.model.architecture.name == family
    x, context = torch.randn(1, 4, 8, 8), torch.randn(1, 77, size.text_width)
    vector = torch.randn(1, size.vector) if size.vector else None
    with torch.inference_mode(), use(model):
        answer = model.model.architecture.forward(
            model.model, x, torch.tensor([7]), context, control=None, transformer_options={}, y=vector
        )
        unet = layout.networks(size).unet.half().float()
        assert torch.allclose(answer, unet(x, torch.tensor([7]), context, class_labels=vector).sample, atol=1e-5)


REAL = {
    "v1": (layout.SD15, "sd15", (8,) * 4),
    "v2": (replace(layout.SD15, heads=0, linear=True, text_width=1024), "sd2", (5, 10, 20, 20)),
    "xl_base": (
        replace(
            layout.SD15, widths=(320, 640, 1280), attention=(False, True, True), heads=0, linear=True, text_width=2048,
            vector=2816, depth=(1, 2, 10),
        ),
        "sdxl",
        (5, 10, 20),
    ),
    "xl_refiner": (
        replace(
            layout.SD15, widths=(384, 768, 1536, 1536), attention=(False, True, True, False), heads=0, linear=True,
            text_width=1280, vector=2560, depth=4,
        ),
        "sdxl_refiner",
        (6, 12, 24, 24),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "size", "family", "heads"), [(key, *each) for key, each in REAL.items()], ids=REAL)
def test_the_real_sizes_are_told_from_shapes_alone(
    kind: str, size: layout.Size, family: str, heads: tuple[int, ...]
) -> None:
    made = layout.networks(size, empty=True)
    tensors = {f"model.diffusion_model.{key}": weight for key, weight in layout.unet_keys(size, made.unet.state_dict())}
    shapes = {key: tuple(weight.shape) for key, weight in tensors.items()}
    header = Header(path=Path("a.safetensors"), shapes=shapes, dtypes=dict.fromkeys(shapes, "F16"), metadata={})
    found = detect(Weights(header=header, names={key: key for key in shapes}, fetch={}.__getitem__))
    assert found.family.name == family
    config = unet_config(found.denoiser.header, head_width=found.family.head_width)  # type: ignore[attr-defined]
    told = config["attention_head_dim"]
    assert (told if isinstance(told, tuple) else (told,) * 4) == heads
    assert (config["block_out_channels"], config["cross_attention_dim"]) == (size.widths, size.text_width)
    if kind != "v1":  # diffusers takes what it does not know for that
        embedder = {"xl_base": 1, "xl_refiner": 0}.get(kind)
        if embedder is not None:
            tensors[f"conditioner.embedders.{embedder}.model.transformer.resblocks.9.mlp.c_proj.bias"] = torch.empty(0)
        assert infer_diffusers_model_type(tensors) == kind


@pytest.mark.parametrize("size", [tiny.SD15, tiny.SDXL, tiny.REFINER, tiny.UNCLIP])
def test_every_weight_of_the_original_layout_has_its_place(size: layout.Size) -> None:
    """Against diffusers' own converter, which renames the same tensors."""
    unet = layout.networks(size).unet
    originals = {f"model.diffusion_model.{key}": each for key, each in layout.unet_keys(size, unet.state_dict())}
    config = {**unet.config, "class_embed_type": "projection" if size.vector else None}
    converted = convert_ldm_unet_checkpoint(dict(originals), config=config)
    keys = key_map(unet.state_dict(), config)
    assert set(keys) == {key.removeprefix("model.") for key in originals}
    for key, (place,) in keys.places.items():
        assert converted[place.parameter] is originals[f"model.{key}"]


def test_sdxl_is_told_the_size_as_it_was_trained(tmp_path: Path) -> None:
    tiny.save_sdxl(tmp_path / "checkpoints/a.safetensors")
    model, _, _ = library(tmp_path).checkpoint("a.safetensors")

    def vector(**more: Any) -> Tensor:
        told = facts(model, **more)
        value: Tensor = model.model.architecture.extra_conds(model.model, told)["y"].value
        return value

    def right(*sizes: int) -> Tensor:
        waves = get_timestep_embedding(torch.tensor(sizes), 256, flip_sin_to_cos=True, downscale_freq_shift=0)
        return torch.cat([torch.linspace(-1, 1, 64), waves.flatten()])[None]

    assert torch.allclose(vector(), right(64, 128, 0, 0, 64, 128), atol=1e-6)
    told = {"width": 1000, "height": 900, "crop_w": 3, "crop_h": 2, "target_width": 800, "target_height": 700}
    assert torch.allclose(vector(**told), right(900, 1000, 2, 3, 700, 800), atol=1e-6)
    with pytest.raises(UnfitInput, match=r"pooled vector has the shape \(1, 32\), .* takes \(batch, 64\)"):
        vector(pooled_output=torch.zeros(1, 32))
    with pytest.raises(UnfitInput, match="pooled vector has the shape none"):
        vector(pooled_output=None)


def test_the_refiner_is_told_how_beautiful_the_picture_is_to_be(tmp_path: Path) -> None:
    tiny.save_sdxl_refiner(tmp_path / "checkpoints/a.safetensors")
    model, _, _ = library(tmp_path).checkpoint("a.safetensors")

    def last(**more: Any) -> Tensor:
        vector: Tensor = model.model.architecture.extra_conds(model.model, facts(model, **more))["y"].value
        return vector[0, -256:]

    def right(score: float) -> Tensor:
        return get_timestep_embedding(torch.tensor([score]), 256, flip_sin_to_cos=True, downscale_freq_shift=0)[0]

    assert torch.allclose(last(), right(6.0), atol=1e-6)
    assert torch.allclose(last(prompt_type="negative"), right(2.5), atol=1e-6)
    assert torch.allclose(last(prompt_type="negative", aesthetic_score=9.0), right(9.0), atol=1e-6)


def test_conditioning_of_another_family_is_refused(tmp_path: Path) -> None:
    tiny.save_sd15(tmp_path / "checkpoints/a.safetensors")
    model, _, _ = library(tmp_path).checkpoint("a.safetensors")
    with pytest.raises(UnfitInput, match=r"\(1, 77, 128\), a.safetensors takes \(batch, tokens, 64\)"):
        model.model.architecture.extra_conds(model.model, facts(model, cross_attn=torch.zeros(1, 77, 128)))


def channels(model: Model, **more: Any) -> Tensor:
    value: Tensor = model.model.architecture.extra_conds(model.model, facts(model, **more))["c_concat"].value
    return value


def test_an_inpainting_model_sees_the_mask_and_the_picture_around_it(tmp_path: Path) -> None:
    tiny.save_sd15_inpaint(tmp_path / "checkpoints/a.safetensors")
    model, _, _ = library(tmp_path).checkpoint("a.safetensors")
    mask = torch.zeros(1, 1, 64, 128)
    mask[..., 64:] = 1
    shown = channels(model, concat_mask=mask, concat_latent_image=torch.ones(1, 4, 8, 16))
    assert shown.shape == (2, 5, 8, 16)
    assert shown[0, 0, 0].tolist() == [0] * 8 + [1] * 8
    assert torch.allclose(shown[:, 1:], torch.full((2, 4, 8, 16), 0.18215))

    nothing = channels(model)
    assert bool((nothing[:, 0] == 1).all())
    assert not nothing[:, 1:].count_nonzero()

    own = channels(model, denoise_mask=torch.full((2, 1, 8, 16), 0.7), latent_image=torch.full((2, 4, 8, 16), 3.0))
    assert bool((own[:, 0] == 1).all())
    assert bool((own[:, 1:] == 3).all())
    with pytest.raises(UnfitInput, match="around the mask has 16 channels"):
        channels(model, concat_latent_image=torch.ones(1, 16, 8, 16))


def test_an_editing_model_sees_the_picture_in_the_units_of_the_vae(tmp_path: Path) -> None:
    tiny.save_sd15_editing(tmp_path / "checkpoints/a.safetensors")
    model, _, _ = library(tmp_path).checkpoint("a.safetensors")
    assert bool((channels(model, concat_latent_image=torch.full((1, 4, 4, 8), 2.0)) == 2).all())
    assert not channels(model).count_nonzero()
    with pytest.raises(UnfitInput, match="picture to change has 16 channels"):
        channels(model, concat_latent_image=torch.ones(1, 16, 8, 16))


def test_noise_on_the_encoding_of_a_picture_is_that_of_the_published_pipeline() -> None:
    """diffusers' StableUnCLIPPipeline.noise_image_embeddings, with its own scheduler and normalizer."""
    mean, std = torch.linspace(-0.1, 0.1, 64)[None], torch.linspace(0.5, 1.5, 64)[None]
    pictures, level = torch.randn(2, 64), 250
    normalizer = StableUnCLIPImageNormalizer(embedding_dim=64)
    normalizer.mean.data, normalizer.std.data = mean, std
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    noise = torch.randn(2, 64, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        noised = scheduler.add_noise(normalizer.scale(pictures), noise, timesteps=torch.tensor([level] * 2))
        told = get_timestep_embedding(torch.tensor([level] * 2), 64, flip_sin_to_cos=True, downscale_freq_shift=0)
        right = torch.cat([normalizer.unscale(noised), told], dim=1)
    ours = NoiseAugmentation(mean=mean, std=std).noised(pictures, level / 999, 5)
    assert torch.allclose(ours, right, atol=1e-5)


def test_an_unclip_model_sees_its_pictures_by_their_strengths(tmp_path: Path) -> None:
    tiny.save_sd2_unclip(tmp_path / "checkpoints/a.safetensors")
    model, _, _ = library(tmp_path).checkpoint("a.safetensors")

    def vector(*seen: dict[str, Any]) -> Tensor:
        value: Tensor = model.model.architecture.extra_conds(model.model, facts(model, unclip_conditioning=seen))[
            "y"
        ].value
        return value

    def picture(strength: float, width: int = 64) -> dict[str, Any]:
        output = SimpleNamespace(image_embeds=torch.ones(1, width))
        return {"clip_vision_output": output, "strength": strength, "noise_augmentation": 0.0}

    assert not vector().count_nonzero()
    assert torch.allclose(vector(picture(0.5)) * 2, vector(picture(1.0)), atol=1e-6)
    assert torch.allclose(vector(picture(1.0))[:, :64], torch.ones(1, 64), atol=0.05)
    assert torch.allclose(vector(picture(1.0), picture(1.0))[:, 64:], vector(picture(2.0))[:, 64:], atol=1e-6)
    with pytest.raises(UnfitInput, match=r"tells 32 values of a picture, .* takes 64"):
        vector(picture(1.0, 32))


MARKED = {
    "ztsnr": ({"ztsnr": torch.zeros(0), "v_pred": torch.zeros(0)}, {}, Velocity, 4518.76),
    "the metadata of SD2": ({}, {"modelspec.prediction_type": "epsilon"}, Epsilon, 14.61),
    "the steps of SD2's base": ({"global_step": torch.tensor(875000)}, {}, Epsilon, 14.61),
    "CosXL": ({"edm_vpred.sigma_max": torch.tensor(120.0)}, {}, Velocity, 120.0),
    "Playground 2.5": ({"edm_mean": torch.zeros(4)}, {}, Edm, 80.0),
}


@pytest.mark.parametrize(("extra", "metadata", "kind", "highest"), MARKED.values(), ids=MARKED)
def test_markers_say_what_a_network_predicts(
    extra: dict[str, Tensor], metadata: dict[str, str], kind: type, highest: float, tmp_path: Path
) -> None:
    weights = {**tiny.parts(tiny.SD2, "sd2"), **extra}
    tiny.save(tmp_path / "checkpoints/a.safetensors", weights, **metadata)
    model, _, _ = library(tmp_path).checkpoint("a.safetensors")
    assert type(model.model_sampling) is kind
    assert model.model_sampling.levels.high == pytest.approx(highest, rel=1e-3)
    assert isinstance(model.model_sampling.levels, LogLevels) == (highest in (120.0, 80.0))


def test_a_file_with_parts_of_two_families_is_refused(tmp_path: Path) -> None:
    mixed = tiny.parts(tiny.SDXL, "sd15")
    tiny.save(tmp_path / "checkpoints/a.safetensors", mixed)
    with pytest.raises(ModelFileError, match="looks like a checkpoint of another family"):
        library(tmp_path).checkpoint("a.safetensors")


@pytest.mark.parametrize("choice", ["fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"])
def test_weights_rounded_to_8_bits_are_computed_with_in_the_usual_precision(choice: str, tmp_path: Path) -> None:
    tiny.save_unet(tmp_path / "diffusion_models/a.safetensors")
    models = library(tmp_path)
    plain, rounded = models.diffusion_model("a.safetensors"), models.diffusion_model("a.safetensors", choice)
    key = "diffusion_model.middle_block.1.proj_in.weight"
    dtype = torch.float8_e5m2 if "e5m2" in choice else torch.float8_e4m3fn
    assert rounded.weight(key).dtype == dtype
    with use(rounded):
        assert rounded.model.diffusion_model.mid_block.attentions[0].proj_in.weight.dtype == torch.float32
    assert torch.equal(rounded.weight(key).float(), plain.weight(key).to(dtype).float())
    assert rounded.size_bytes() < plain.size_bytes() * 0.6
