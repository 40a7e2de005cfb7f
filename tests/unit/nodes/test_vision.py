from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from limner.models.device import Devices
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.nodes import library
from tests.support.tiny.checkpoints import save_sd2_unclip
from tests.support.tiny.vision import save_clip_vision, save_style
from tests.unit.nodes.contexts import Run, run_in

NODES = library.load()
CPU = Devices(device=torch.device("cpu"), half=None)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelLibrary:
    root = tmp_path_factory.mktemp("models")
    save_sd2_unclip(root / "checkpoints/unclip.safetensors")
    save_clip_vision(root / "clip_vision/vision.safetensors")
    save_style(root / "style_models/style.safetensors")
    return ModelLibrary(ModelFolders([root]), CPU)


@pytest.fixture
def run(models: ModelLibrary, tmp_path: Path) -> Run:
    return run_in(tmp_path, services={ModelLibrary: models})


def call(name: str, run: Run, **inputs: Any) -> Any:
    values = NODES[name].call(inputs, run.ctx).values
    return values[0] if len(values) == 1 else values


def seen(run: Run, count: int = 1) -> Any:
    vision = call("CLIPVisionLoader", run, clip_name="vision.safetensors")
    image = torch.rand(count, 30, 30, 3, generator=torch.Generator().manual_seed(count))
    return call("CLIPVisionEncode", run, clip_vision=vision, image=image, crop="center")


def test_a_style_stands_behind_the_words(run: Run) -> None:
    style = call("StyleModelLoader", run, style_model_name="style.safetensors")
    told = {"style_model": style, "clip_vision_output": seen(run, 2), "strength": 0.5}
    text = [(torch.ones(1, 77, 64), {"pooled_output": 1})]
    (styled, extras), *_ = call("StyleModelApply", run, conditioning=text, **told, strength_type="multiply")
    assert styled.shape == (1, 77 + 2 * 4, 64)
    assert torch.equal(styled[:, :77], text[0][0])
    torch.testing.assert_close(styled[0, 77:], 0.5 * style.get_cond(told["clip_vision_output"]).flatten(0, 1))
    assert extras == {"pooled_output": 1}
    biased = call("StyleModelApply", run, conditioning=text, **told, strength_type="attn_bias")
    torch.testing.assert_close(biased[0][0][0, 77:], 2 * styled[0, 77:])
    ((first, end, bias),) = biased[0][1]["attention_bias"]
    assert (first, end) == (77, 85)
    assert bias == pytest.approx(torch.tensor(0.5).log().item())
    full = call("StyleModelApply", run, conditioning=text, **(told | {"strength": 1.0}), strength_type="attn_bias")
    assert "attention_bias" not in full[0][1]


def test_pictures_steer_an_unclip_model(models: ModelLibrary, run: Run) -> None:
    model, clip, _ = models.checkpoint("unclip.safetensors")
    text = call("CLIPTextEncode", run, text="a cat", clip=clip)
    told = {"seed": 1, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    latent = {"samples": torch.zeros(1, 4, 8, 8)}

    def drawn(conditioning: Any) -> torch.Tensor:
        made = call("KSampler", run, model=model, positive=conditioning, negative=text, latent_image=latent, **told)
        samples: torch.Tensor = made["samples"]
        return samples

    def shown(count: int, strength: float = 1.0) -> Any:
        return call(
            "unCLIPConditioning", run, conditioning=text, clip_vision_output=seen(run, count), strength=strength,
            noise_augmentation=0.1,
        )  # fmt: skip

    assert call("unCLIPConditioning", run, conditioning=text, clip_vision_output=None, strength=0.0) is text
    one, other = drawn(shown(1)), drawn(shown(2))
    assert not torch.allclose(one, drawn(text))
    assert not torch.allclose(one, other)
    twice = call(
        "unCLIPConditioning", run, conditioning=shown(1), clip_vision_output=seen(run, 2), strength=1.0,
        noise_augmentation=0.0,
    )  # fmt: skip
    assert len(twice[0][1]["unclip_conditioning"]) == 2
