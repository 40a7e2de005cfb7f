from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from limner.errors import ModelFileError, UnfitInput
from limner.models.device import Devices
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.nodes import library
from tests.support.tiny.checkpoints import save_sd15, save_sdxl
from tests.support.tiny.controlnet import SDXL, save_control_lora, save_controlnet
from tests.support.tiny.lora import SD15, save_lora
from tests.support.tiny.upscale import save_upscale_model
from tests.unit.nodes.contexts import Run, run_in

NODES = library.load()
CPU = Devices(device=torch.device("cpu"), half=None)
SAMPLING = {"seed": 1, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelLibrary:
    root = tmp_path_factory.mktemp("models")
    save_sd15(root / "checkpoints/tiny.safetensors")
    save_lora(root / "loras/style.safetensors", SD15)
    save_lora(
        root / "loras/xl.safetensors", {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k": (640, 2048)}
    )
    save_controlnet(root / "controlnet/edges.safetensors")
    save_control_lora(root / "controlnet/adds.safetensors")
    save_controlnet(root / "controlnet/xl.safetensors", SDXL)
    save_controlnet(root / "controlnet/union.safetensors", SDXL, layout="diffusers", union=True)
    save_upscale_model(root / "upscale_models/x2.safetensors")
    return ModelLibrary(ModelFolders([root]), CPU)


@pytest.fixture
def run(models: ModelLibrary, tmp_path: Path) -> Run:
    return run_in(tmp_path, services={ModelLibrary: models})


def call(name: str, run: Run, **inputs: Any) -> Any:
    values = NODES[name].call(inputs, run.ctx).values
    return values[0] if len(values) == 1 else values


def picture(models: ModelLibrary, run: Run, *, model: Any = None, clip: Any = None, **steered: Any) -> torch.Tensor:
    """The latent that two steps give."""
    plain, encoder, _ = models.checkpoint("tiny.safetensors")
    positive, negative = (call("CLIPTextEncode", run, text=text, clip=clip or encoder) for text in ("a cat", ""))
    if steered:
        positive, negative = call("ControlNetApplyAdvanced", run, positive=positive, negative=negative, **steered)
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    made = call(
        "KSampler", run, model=model or plain, positive=positive, negative=negative, latent_image=latent, **SAMPLING
    )
    samples: torch.Tensor = made["samples"]
    return samples


def test_a_lora_changes_the_picture_by_the_model_and_by_the_text(models: ModelLibrary, run: Run) -> None:
    model, clip, _ = models.checkpoint("tiny.safetensors")
    told = {"model": model, "clip": clip, "lora_name": "style.safetensors"}
    changed, encoder = call("LoraLoader", run, **told, strength_model=1.0, strength_clip=1.0)
    plain = picture(models, run)
    by_model, by_text = picture(models, run, model=changed), picture(models, run, clip=encoder)
    assert not torch.allclose(plain, by_model)
    assert not torch.allclose(plain, by_text)
    assert torch.equal(plain, picture(models, run))
    alone = call("LoraLoaderModelOnly", run, model=model, lora_name="style.safetensors", strength_model=1.0)
    assert torch.equal(picture(models, run, model=alone), by_model)
    taken, _ = call("LoraLoader", run, **(told | {"model": changed}), strength_model=-1.0, strength_clip=0.0)
    torch.testing.assert_close(picture(models, run, model=taken), plain, rtol=1e-3, atol=1e-4)
    assert run.warnings == []


def test_at_strength_zero_the_very_same_model_goes_on(models: ModelLibrary, run: Run) -> None:
    model, clip, _ = models.checkpoint("tiny.safetensors")
    told = {"model": model, "clip": clip, "lora_name": "absent.safetensors"}
    assert call("LoraLoader", run, **told, strength_model=0.0, strength_clip=0.0) == (model, clip)
    assert call("LoraLoaderModelOnly", run, model=model, lora_name="absent", strength_model=0.0) is model


def test_a_lora_of_another_family_is_refused(models: ModelLibrary, run: Run) -> None:
    model, clip, _ = models.checkpoint("tiny.safetensors")
    told = {"model": model, "clip": clip, "strength_model": 1.0, "strength_clip": 1.0}
    with pytest.raises(UnfitInput, match=r"xl.safetensors does not fit tiny.safetensors.*Stable Diffusion XL"):
        call("LoraLoader", run, **told, lora_name="xl.safetensors")
    with pytest.raises(ModelFileError, match=r"there is no .absent.safetensors."):
        call("LoraLoader", run, **told, lora_name="absent.safetensors")


def test_a_control_network_steers_by_its_strength_and_in_its_part_of_the_way(models: ModelLibrary, run: Run) -> None:
    net = call("ControlNetLoader", run, control_net_name="edges.safetensors")
    told = {"control_net": net, "image": torch.rand(1, 40, 72, 3), "start_percent": 0.0, "end_percent": 1.0}
    plain = picture(models, run)
    whole = picture(models, run, **told, strength=1.0)
    assert not torch.allclose(plain, whole)
    assert torch.equal(picture(models, run, **told, strength=0.0), plain)
    assert torch.equal(picture(models, run, **(told | {"start_percent": 1.0}), strength=1.0), plain)
    half = picture(models, run, **(told | {"end_percent": 0.4}), strength=1.0)
    assert not torch.allclose(half, whole)
    assert not torch.allclose(half, plain)


def test_positive_and_negative_share_one_network_and_earlier_ones_stay(run: Run) -> None:
    net = call("ControlNetLoader", run, control_net_name="edges.safetensors")
    text = [(torch.zeros(1, 77, 64), {})]
    told = {
        "control_net": net,
        "image": torch.rand(1, 8, 8, 3),
        "strength": 1.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
    }
    first = call("ControlNetApplyAdvanced", run, positive=text, negative=text, **told)
    assert first[0][0][1]["control"] is first[1][0][1]["control"]
    second = call("ControlNetApplyAdvanced", run, positive=first[0], negative=first[1], **told)
    chained = second[0][0][1]["control"]
    assert chained is second[1][0][1]["control"]
    assert chained.previous_controlnet is first[0][0][1]["control"]
    assert first[0][0][1]["control"].previous_controlnet is None
    old = call("ControlNetApply", run, conditioning=text, control_net=net, image=told["image"], strength=1.0)
    assert old[0][1]["control_apply_to_uncond"] is True
    assert second[0][0][1]["control_apply_to_uncond"] is False


def test_the_old_node_s_network_steers_the_negative_too(models: ModelLibrary, run: Run) -> None:
    net = call("ControlNetLoader", run, control_net_name="edges.safetensors")
    model, clip, _ = models.checkpoint("tiny.safetensors")
    image = torch.rand(1, 64, 64, 3)
    positive, negative = (call("CLIPTextEncode", run, text=text, clip=clip) for text in ("a cat", ""))
    applied = call("ControlNetApply", run, conditioning=positive, control_net=net, image=image, strength=1.0)
    told = {"model": model, "latent_image": {"samples": torch.zeros(1, 4, 8, 8)}, **SAMPLING}
    old = call("KSampler", run, positive=applied, negative=negative, **told)["samples"]
    new = picture(models, run, control_net=net, image=image, strength=1.0, start_percent=0.0, end_percent=1.0)
    torch.testing.assert_close(old, new)


def test_a_control_network_of_another_family_is_refused_when_it_is_used(models: ModelLibrary, run: Run) -> None:
    net = call("ControlNetLoader", run, control_net_name="xl.safetensors")
    told = {"image": torch.rand(1, 64, 64, 3), "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    with pytest.raises(UnfitInput, match=r"xl.safetensors does not fit tiny.safetensors"):
        picture(models, run, control_net=net, **told)
    assert torch.equal(picture(models, run), picture(models, run))


def test_a_control_network_may_read_a_text_of_its_own(models: ModelLibrary, run: Run) -> None:
    net = call("ControlNetLoader", run, control_net_name="edges.safetensors")
    model, clip, _ = models.checkpoint("tiny.safetensors")
    positive, negative = (call("CLIPTextEncode", run, text=text, clip=clip) for text in ("a cat", ""))
    told = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, "control_net": net}
    told["image"] = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))

    def drawn(own: str) -> torch.Tensor:
        spoken = [
            call("CLIPTextEncodeControlnet", run, clip=clip, conditioning=each, text=own)
            for each in (positive, negative)
        ]
        first, second = call("ControlNetApplyAdvanced", run, positive=spoken[0], negative=spoken[1], **told)
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        made = call("KSampler", run, model=model, positive=first, negative=second, latent_image=latent, **SAMPLING)
        samples: torch.Tensor = made["samples"]
        return samples

    assert not torch.allclose(drawn("a dog"), drawn("edges of a house"))


def test_a_control_lora_steers_with_the_weights_of_the_model_as_it_is(models: ModelLibrary, run: Run) -> None:
    net = call("ControlNetLoader", run, control_net_name="adds.safetensors")
    told = {"control_net": net, "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    told["image"] = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    plain, steered = picture(models, run), picture(models, run, **told)
    assert not torch.allclose(plain, steered)
    assert torch.equal(picture(models, run, **told), steered)
    assert torch.equal(picture(models, run), plain)


@pytest.mark.parametrize(("height", "width"), [(9, 13), (7, 6)])
def test_latents_of_any_size_are_steered(height: int, width: int, models: ModelLibrary, run: Run) -> None:
    net = call("ControlNetLoader", run, control_net_name="edges.safetensors")
    model, clip, _ = models.checkpoint("tiny.safetensors")
    text = call("CLIPTextEncode", run, text="a cat", clip=clip)
    told = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, "control_net": net}
    first, second = call(
        "ControlNetApplyAdvanced", run, positive=text, negative=text, image=torch.rand(1, 64, 64, 3), **told
    )
    latent = {"samples": torch.zeros(2, 4, height, width)}
    made = call("KSampler", run, model=model, positive=first, negative=second, latent_image=latent, **SAMPLING)
    assert made["samples"].shape == (2, 4, height, width)


def test_a_model_of_two_text_encoders_is_changed_in_both(tmp_path: Path) -> None:
    save_sdxl(tmp_path / "checkpoints/xl.safetensors")
    shapes = {
        "lora_unet_input_blocks_3_1_transformer_blocks_0_attn2_to_k": (64, 128),
        "lora_unet_label_emb_0_0": (256, 64 + 6 * 256),
        "lora_te1_text_model_encoder_layers_0_mlp_fc1": (128, 64),
        "lora_te2_text_model_encoder_layers_0_self_attn_q_proj": (64, 64),
        "lora_te2_text_projection": (64, 64),
    }
    save_lora(tmp_path / "loras/xl.safetensors", shapes)
    models = ModelLibrary(ModelFolders([tmp_path]), CPU)
    run = run_in(tmp_path, services={ModelLibrary: models})
    model, clip, _ = models.checkpoint("xl.safetensors")
    told = {"model": model, "clip": clip, "lora_name": "xl.safetensors", "strength_model": 1.0, "strength_clip": 1.0}
    changed, encoders = call("LoraLoader", run, **told)
    assert run.warnings == []
    assert set(changed.patches) == {
        "diffusion_model.input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight",
        "diffusion_model.label_emb.0.0.weight",
    }
    assert set(encoders.patches) == {
        "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight",
        "clip_g.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight",
        "clip_g.transformer.text_projection.weight",
    }
    assert not torch.allclose(encoders.encode("a cat")[0], clip.encode("a cat")[0])


def test_a_union_network_is_told_what_it_will_see(run: Run) -> None:
    net = call("ControlNetLoader", run, control_net_name="union.safetensors")
    assert call("SetUnionControlNetType", run, control_net=net, type="tile").extra_args == {"control_type": [6]}
    assert call("SetUnionControlNetType", run, control_net=net, type="auto").extra_args == {"control_type": []}
    assert net.extra_args == {}


def test_the_inpainting_node_says_that_the_mask_does_not_count(models: ModelLibrary, run: Run) -> None:
    net = call("ControlNetLoader", run, control_net_name="edges.safetensors")
    text = [(torch.zeros(1, 77, 64), {})]
    told = {"positive": text, "negative": text, "control_net": net, "image": torch.rand(1, 8, 8, 3), "strength": 1.0}
    told |= {"start_percent": 0.0, "end_percent": 1.0, "vae": models.checkpoint("tiny.safetensors")[2]}
    applied, _ = call("ControlNetInpaintingAliMamaApply", run, **told, mask=torch.ones(1, 8, 8))
    assert applied[0][1]["control"].vae is told["vae"]
    assert run.warnings == ["edges.safetensors takes no mask: the picture alone steers"]
    same, _ = call("ControlNetApplySD3", run, **told)
    assert same[0][1]["control"].vae is told["vae"]


def test_a_picture_is_enlarged_tile_by_tile(run: Run) -> None:
    upscaler = call("UpscaleModelLoader", run, model_name="x2.safetensors")
    large = call("ImageUpscaleWithModel", run, upscale_model=upscaler, image=torch.rand(1, 16, 520, 3))
    assert large.shape == (1, 32, 1040, 3)
    assert run.steps == [(1, 2, None), (2, 2, None)]
