from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.errors import ModelFileError, UnfitInput
from limner.models.clip import Clip
from limner.models.device import Devices
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.nodes.text_encode import encoders, prompts
from tests.support.tiny import text_encoders as tiny
from tests.unit.nodes.contexts import Run, run_in

CPU = Devices(device=torch.device("cpu"), half=None)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "text_encoders"
    tiny.save_clip(folder / "l.safetensors", "clip_l")
    tiny.save_clip(folder / "g.safetensors", "clip_g", layout="open_clip", width=128)
    tiny.save_t5(folder / "t5.safetensors", width=256)
    return run_in(tmp_path, services={ModelLibrary: ModelLibrary(ModelFolders([tmp_path]), CPU)})


def sdxl(run: Run) -> Clip:
    return encoders.load_two_clips(run.ctx, clip_name1="g.safetensors", clip_name2="l.safetensors", type="sdxl")


def sd3(run: Run) -> Clip:
    names = {f"clip_name{number}": f"{name}.safetensors" for number, name in enumerate(("t5", "l", "g"), start=1)}
    return encoders.load_three_clips(run.ctx, **names)


def flux(run: Run) -> Clip:
    return encoders.load_two_clips(run.ctx, clip_name1="t5.safetensors", clip_name2="l.safetensors", type="flux")


def sd15(run: Run, device: str | None = None) -> Clip:
    return encoders.load_clip(run.ctx, clip_name="l.safetensors", type="stable_diffusion", device=device)


def only(conditioning: Any) -> tuple[Tensor, dict[str, Any]]:
    [(context, extras)] = conditioning
    return context, extras


def test_a_prompt_becomes_a_conditioning(run: Run) -> None:
    clip = sd15(run)
    context, extras = only(prompts.encode_text(text="a (cat:1.2)", clip=clip))
    want, pooled = clip.read("a (cat:1.2)")
    assert torch.equal(context, want)
    assert pooled is not None
    assert torch.equal(extras["pooled_output"], pooled)
    assert list(extras) == ["pooled_output"]


def test_an_encoder_is_loaded_once_for_each_device(run: Run, tmp_path: Path) -> None:
    assert sd15(run) is sd15(run, "default") is sd15(run, "cpu")
    elsewhere = Devices(device=torch.device("cuda", 0), half=torch.float16)
    other = run_in(tmp_path, services={ModelLibrary: ModelLibrary(ModelFolders([tmp_path]), elsewhere)})
    assert sd15(other, "cpu") is not sd15(other)
    assert sd15(other).load_device == torch.device("cuda", 0)
    assert sd15(other, "cpu").read("a cat")[0].shape == (1, 77, 64)


def test_a_file_that_does_not_go_with_the_type_is_refused(run: Run) -> None:
    with pytest.raises(ModelFileError, match=r"t5\.safetensors is a T5 encoder"):
        encoders.load_clip(run.ctx, clip_name="t5.safetensors", type="stable_diffusion")
    with pytest.raises(UnfitInput, match="'hunyuan_video' cannot be run by this version"):
        encoders.load_two_clips(run.ctx, clip_name1="t5.safetensors", clip_name2="l.safetensors", type="hunyuan_video")
    with pytest.raises(ModelFileError, match=r"there is no 'none\.safetensors' among the text_encoders"):
        encoders.load_clip(run.ctx, clip_name="none.safetensors", type="sd3")


def test_sdxl_takes_a_text_for_each_encoder_and_sizes(run: Run) -> None:
    clip = sdxl(run)
    sizes = {"width": 640, "height": 512, "crop_w": 1, "crop_h": 2, "target_width": 800, "target_height": 600}
    context, extras = only(prompts.encode_text_sdxl(clip=clip, **sizes, text_g="a cat", text_l="a dog"))
    cat, pooled = clip.read("a cat")
    dog, _ = clip.read("a dog")
    assert torch.equal(context, torch.cat([dog[..., :64], cat[..., 64:]], dim=-1))
    assert pooled is not None
    assert torch.equal(extras.pop("pooled_output"), pooled)
    assert extras == sizes


@pytest.mark.parametrize("longer", ["text_g", "text_l"])
def test_the_shorter_text_is_filled_with_empty_sections(longer: str, run: Run) -> None:
    clip = sdxl(run)
    texts = {"text_g": "a cat", "text_l": "a cat", longer: "word " * 80}
    context, _ = only(prompts.encode_text_sdxl(clip=clip, **texts))
    short, _ = clip.read("a cat")
    empty, _ = clip.read("")
    part = slice(64, None) if longer == "text_l" else slice(0, 64)
    assert context.shape == (1, 154, 192)
    assert torch.allclose(context[..., part], torch.cat([short, empty], dim=1)[..., part], atol=1e-5)


def test_the_refiner_hears_of_beauty_and_size(run: Run) -> None:
    clip = encoders.load_clip(run.ctx, clip_name="g.safetensors", type="stable_diffusion")
    context, extras = only(prompts.encode_text_refiner(ascore=2.5, width=512, height=256, text="a cat", clip=clip))
    assert torch.equal(context, clip.read("a cat")[0])
    assert (extras["aesthetic_score"], extras["width"], extras["height"]) == (2.5, 512, 256)


def test_sd3_takes_three_texts_and_leaves_out_empty_ones_if_told(run: Run) -> None:
    clip = sd3(run)
    texts = {"clip_l": "a cat", "clip_g": "a cat", "t5xxl": ""}
    whole, extras = only(prompts.encode_text_sd3(clip=clip, **texts, empty_padding="empty_prompt"))
    short, _ = only(prompts.encode_text_sd3(clip=clip, **texts, empty_padding="none"))
    assert (whole.shape, short.shape) == ((1, 154, 256), (1, 77, 256))
    assert torch.equal(whole[:, :77], short)
    assert torch.equal(whole[:, :77], clip.read("a cat")[0][:, :77])
    assert torch.equal(whole[:, 77:], clip.read("")[0][:, 77:])
    assert extras["pooled_output"].shape == (1, 192)
    alone, _ = only(prompts.encode_text_sd3(clip=clip, clip_l="", clip_g="", t5xxl="a cat", empty_padding="none"))
    assert torch.equal(alone, clip.read("a cat")[0][:, 77:])
    nothing, _ = only(prompts.encode_text_sd3(clip=clip, clip_l="", clip_g="", t5xxl="", empty_padding="none"))
    assert torch.equal(nothing, torch.zeros(1, 77, 256))


def test_sd3_does_with_t5_alone(run: Run) -> None:
    clip = encoders.load_clip(run.ctx, clip_name="t5.safetensors", type="sd3")
    context, _ = only(prompts.encode_text_sd3(clip=clip, clip_l="a", clip_g="b", t5xxl="a cat", empty_padding="none"))
    assert torch.equal(context, clip.read("a cat")[0])


def test_flux_takes_two_texts_and_the_guidance(run: Run) -> None:
    clip = flux(run)
    context, extras = only(prompts.encode_text_flux(clip=clip, clip_l="a dog", t5xxl="a cat", guidance=2.0))
    assert torch.equal(context, clip.read("a cat")[0])
    pooled = clip.read("a dog")[1]
    assert pooled is not None
    assert torch.equal(extras["pooled_output"], pooled)
    assert extras["guidance"] == 2.0


def test_a_text_encoder_of_another_family_is_refused_by_name(run: Run) -> None:
    clip = sd15(run)
    with pytest.raises(
        UnfitInput, match=r"CLIPTextEncodeSDXL wants .* l, g; this one is that of Stable Diffusion 1\.x"
    ):
        prompts.encode_text_sdxl(clip=clip, text_g="a", text_l="a")
    with pytest.raises(UnfitInput, match="CLIPTextEncodeFlux wants"):
        prompts.encode_text_flux(clip=clip, clip_l="a", t5xxl="a")
    with pytest.raises(UnfitInput, match="CLIPTextEncodeSD3 wants"):
        prompts.encode_text_sd3(clip=clip, clip_l="a", clip_g="", t5xxl="", empty_padding="none")


def test_control_networks_may_have_a_prompt_of_their_own(run: Run) -> None:
    clip = sd15(run)
    conditioning = prompts.encode_text(text="a cat", clip=clip)
    context, extras = only(prompts.encode_text_controlnet(clip=clip, conditioning=conditioning, text="a dog"))
    own, pooled = clip.read("a dog")
    assert pooled is not None
    assert torch.equal(context, clip.read("a cat")[0])
    assert torch.equal(extras["cross_attn_controlnet"], own)
    assert torch.equal(extras["pooled_output_controlnet"], pooled)
    assert "cross_attn_controlnet" not in only(conditioning)[1]


def test_the_last_layer_is_set_for_a_clone(run: Run) -> None:
    clip = sd15(run)
    before = clip.read("a cat")[0]
    skipped = encoders.set_last_layer(clip=clip, stop_at_clip_layer=-2)
    assert not torch.equal(skipped.read("a cat")[0], before)
    assert torch.equal(clip.read("a cat")[0], before)
    assert torch.equal(encoders.set_last_layer(clip=skipped, stop_at_clip_layer=-1).read("a cat")[0], before)


@pytest.mark.parametrize(("padding", "length", "places"), [(0, 0, 15), (3, 0, 18), (0, 40, 40), (30, 40, 45)], ids=str)
def test_t5_is_padded_as_told(padding: int, length: int, places: int, run: Run) -> None:
    clip = flux(run)
    changed = encoders.set_t5_options(run.ctx, clip=clip, min_padding=padding, min_length=length)
    assert len(changed.tokenize("a photo of a cat")["t5xxl"][0]) == places
    assert changed.read("a photo of a (cat:1.2)")[0].shape[1] == len(
        changed.tokenize("a photo of a (cat:1.2)")["t5xxl"][0]
    )
    assert len(clip.tokenize("a photo of a cat")["t5xxl"][0]) == 256
    assert not run.warnings


def test_options_for_t5_without_one_are_told(run: Run) -> None:
    clip = encoders.set_t5_options(run.ctx, clip=sd15(run), min_padding=1, min_length=1)
    assert torch.equal(clip.read("a cat")[0], sd15(run).read("a cat")[0])
    assert run.warnings == ["this text encoder has no T5, so that options for T5 change nothing"]
