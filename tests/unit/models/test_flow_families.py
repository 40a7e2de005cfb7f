"""What the transformer families have in common: each file is of one family alone, and what does not go is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from limner.errors import LimnerError, ModelFileError, UnfitInput
from limner.models.family import detect, known
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.models.residency import use
from limner.models.weights import open_weights
from tests.support.tiny import checkpoints, flux, sd3, text_encoders, z_image
from tests.support.tiny.checkpoints import FLUX_VAE, SD15
from tests.unit.models.flows import CPU, diffusion_model
from tests.unit.nodes.calling import value

FILES: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "sd15": ("sd15", checkpoints.save_sd15),
    "sd2": ("sd2", checkpoints.save_sd2_v),
    "sdxl": ("sdxl", checkpoints.save_sdxl),
    "flux": ("flux", flux.save_flux),
    "flux checkpoint": ("flux", flux.save_flux_checkpoint),
    "sd3": ("sd3", sd3.save_sd3),
    "sd3.5 medium": ("sd3", lambda path: sd3.save_sd3(path, sd3.MEDIUM, prefix="")),
    "sd3 checkpoint": ("sd3", sd3.save_sd3_checkpoint),
    "z-image": ("z_image", z_image.save_z_image),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_of_one_family_alone(kind: str, tmp_path: Path) -> None:
    name, save = FILES[kind]
    save(tmp_path / "a.safetensors")
    file = open_weights(tmp_path / "a.safetensors")
    found = detect(file)
    assert found.family.name == name
    assert [each.name for each in known() if each.matches(found.denoiser.header, file.header)] == [name]


RELATIVES: dict[str, dict[str, tuple[int, ...]]] = {
    "Chroma": {"double_blocks.0.img_attn.norm.key_norm.scale": (128,), "distilled_guidance_layer.in_proj.bias": (8,)},
    "Flux.2": {"double_blocks.0.img_attn.qkv.weight": (8, 8), "double_stream_modulation_img.lin.weight": (8, 8)},
    "Lumina 2": {"cap_embedder.0.weight": (8,), "layers.0.adaLN_modulation.1.weight": (8, 8)},
    "Qwen-Image": {"transformer_blocks.0.img_mod.1.weight": (8, 8), "txt_norm.weight": (8,)},
}


@pytest.mark.parametrize("relative", RELATIVES)
def test_a_relative_that_is_not_read_is_named(relative: str, tmp_path: Path) -> None:
    weights = {key: torch.zeros(shape) for key, shape in RELATIVES[relative].items()}
    file = open_weights(checkpoints.save(tmp_path / "a.safetensors", weights))
    with pytest.raises(ModelFileError, match=f"it looks like {relative}; this version reads models of: .*Flux.1"):
        detect(file)


def sample(model: Any, positive: Any, channels: int = 16) -> Any:
    latent = {"samples": torch.ones(1, channels, 8, 8)}
    told: dict[str, Any] = {"seed": 1, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    told |= {"model": model, "positive": positive, "negative": positive, "latent_image": latent, "denoise": 1.0}
    return value("KSampler", **told)


def test_the_text_of_another_family_is_refused(tmp_path: Path) -> None:
    checkpoints.save_sd15(tmp_path / "checkpoints/a.safetensors")
    flux.save_flux(tmp_path / "diffusion_models/a.safetensors")
    _, clip, _ = ModelLibrary(ModelFolders([tmp_path]), CPU).checkpoint("a.safetensors")
    text = value("CLIPTextEncode", text="a cat", clip=clip)
    with pytest.raises(UnfitInput, match=r"shape \(1, 77, 64\), a.safetensors \(Flux.1\) takes"):
        sample(diffusion_model(tmp_path), text)


def test_flux_without_t5_is_refused_at_the_loader(tmp_path: Path) -> None:
    for name in ("clip_l", "clip_g"):
        text_encoders.save_clip(tmp_path / f"text_encoders/{name}.safetensors", name)
    library = ModelLibrary(ModelFolders([tmp_path]), CPU)
    with pytest.raises(ModelFileError, match=r"CLIP-L and .* OpenCLIP-G.* takes CLIP-L and a T5 encoder"):
        library.text_encoders(["clip_l.safetensors", "clip_g.safetensors"], "flux")


def test_a_latent_of_another_space_is_refused(tmp_path: Path) -> None:
    flux.save_flux(tmp_path / "diffusion_models/a.safetensors")
    text = [[torch.zeros(1, 7, 128), {"pooled_output": torch.zeros(1, 64)}]]
    with pytest.raises(UnfitInput, match="the latent has 4 channels, the model works on 16"):
        sample(diffusion_model(tmp_path), text, channels=4)


@pytest.mark.parametrize(("size", "channels"), [(SD15, 16), (FLUX_VAE, 4)])
def test_a_vae_of_another_space_is_refused(size: Any, channels: int, tmp_path: Path) -> None:
    checkpoints.save_vae(tmp_path / "vae/a.safetensors", size)
    vae = ModelLibrary(ModelFolders([tmp_path]), CPU).vae("a.safetensors")
    with pytest.raises(LimnerError, match=f"{channels}"):
        value("VAEDecode", samples={"samples": torch.ones(1, channels, 8, 8)}, vae=vae)


def test_eight_bit_weights_with_scales_are_read(tmp_path: Path) -> None:
    """As fp8_scaled files have them: the whole weight is the small one times its scale."""
    made = flux.keys(flux.network())
    whole, file = dict(made), {"scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}
    for key, weight in made.items():
        if weight.ndim == 2 and "blocks." in key:
            scale = torch.tensor(2.0**-10)
            small = (weight / scale).to(torch.float8_e4m3fn)
            file |= {key: small, f"{key.removesuffix('weight')}scale_weight": scale}
            whole[key] = (small.float() * scale).bfloat16().float()
        else:
            file[key] = weight
    checkpoints.save(tmp_path / "diffusion_models/small.safetensors", file)
    checkpoints.save(tmp_path / "diffusion_models/whole.safetensors", whole)
    x, sigma = torch.randn(1, 16, 8, 8), torch.tensor([0.5])
    answers = []
    for name in ("small", "whole"):
        with torch.inference_mode():  # as a host loads
            model = diffusion_model(tmp_path, f"{name}.safetensors")
        with torch.inference_mode(), use(model):
            answers.append(model.model.apply_model(x, sigma, c_crossattn=torch.ones(1, 7, 128)))
    assert torch.allclose(answers[0], answers[1], atol=1e-5)
