import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

from limner.errors import Interrupted, ModelFileError, UnfitInput
from limner.models.device import Devices
from limner.models.files import BUILTIN, ModelFolders
from limner.models.library import ModelLibrary
from limner.nodes import library
from tests.support.tiny import layout
from tests.unit.nodes.contexts import Run, run_in

NODES = library.load()
CPU = Devices(device=torch.device("cpu"), half=None)
SMALL = layout.Size(widths=(32, 64), layers=1, vae_widths=(32, 32, 32, 32))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelLibrary:
    root = tmp_path_factory.mktemp("models")
    weights = layout.keys(SMALL, layout.networks(SMALL))
    layout.save(root / "checkpoints/small.safetensors", weights, config={"native_size": 64})
    weights["model.diffusion_model.out.2.weight"] = torch.full_like(
        weights["model.diffusion_model.out.2.weight"], torch.nan
    )
    layout.save(root / "checkpoints/broken.safetensors", weights)
    other = layout.Size(widths=(32, 64), layers=1, vae_widths=(32, 32, 32, 32), text_width=128)
    layout.save(root / "checkpoints/other.safetensors", layout.keys(other, layout.networks(other)))
    return ModelLibrary(ModelFolders([root]), CPU, keep=3)


def call(name: str, run: Run, **inputs: Any) -> tuple[Any, ...]:
    return NODES[name].call(inputs, run.ctx).values


def sample(models: ModelLibrary, run: Run, *, checkpoint: str = "small.safetensors", **changes: Any) -> torch.Tensor:
    run.ctx.services = {ModelLibrary: models}
    model, clip, _ = call("CheckpointLoaderSimple", run, ckpt_name=checkpoint)
    (positive,) = call("CLIPTextEncode", run, text="a (cat:1.2)", clip=clip)
    (negative,) = call("CLIPTextEncode", run, text="", clip=clip)
    (latent,) = call("EmptyLatentImage", run, width=64, height=64, batch_size=1)
    inputs = {"seed": 5, "steps": 3, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    inputs |= {"model": model, "positive": positive, "negative": negative, "latent_image": latent, **changes}
    (result,) = call("KSampler", run, **inputs)
    samples: torch.Tensor = result["samples"]
    return samples


def test_the_same_seed_gives_the_same_latent_and_another_seed_another(models: ModelLibrary, tmp_path: Path) -> None:
    first, again, other = (sample(models, run_in(tmp_path), seed=seed) for seed in (5, 5, 2**64 - 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.float32


def test_every_step_is_told_and_previews_only_when_somebody_watches(models: ModelLibrary, tmp_path: Path) -> None:
    unseen, seen = run_in(tmp_path), run_in(tmp_path, previews=True)
    (wide,) = call("EmptyLatentImage", seen, width=64, height=32, batch_size=2)
    sample(models, unseen)
    sample(models, seen, latent_image=wide)
    assert unseen.steps == [(1, 3, None), (2, 3, None), (3, 3, None)]
    kind, data = seen.steps[-1][2] or ("", b"")
    assert kind == "image/jpeg"
    with Pictures.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (512, 256))


def test_an_interrupt_is_heard_at_the_next_step(models: ModelLibrary, tmp_path: Path) -> None:
    run = run_in(tmp_path)

    def check() -> None:
        if len(run.steps) == 2:
            raise Interrupted("the run was interrupted")

    run.ctx.check = check
    with pytest.raises(Interrupted):
        sample(models, run, steps=50)
    assert len(run.steps) == 2


def test_a_size_the_model_was_not_made_for_is_warned_about(models: ModelLibrary, tmp_path: Path) -> None:
    native, other = run_in(tmp_path), run_in(tmp_path)
    sample(models, native)
    (latent,) = call("EmptyLatentImage", other, width=128, height=64, batch_size=1)
    sample(models, other, latent_image=latent)
    assert native.warnings == []
    assert other.warnings == ["small.safetensors was made for 64x64 pictures; 128x64 may come out badly composed"]


def test_nothing_to_denoise_leaves_the_latent(models: ModelLibrary, tmp_path: Path) -> None:
    latent = {"samples": torch.randn(1, 4, 8, 8)}
    assert torch.allclose(sample(models, run_in(tmp_path), latent_image=latent, denoise=0.0), latent["samples"])


def test_less_denoising_stays_nearer_to_what_came_in(models: ModelLibrary, tmp_path: Path) -> None:
    latent = {"samples": torch.randn(1, 4, 8, 8) * 5}
    little, much = (
        float((sample(models, run_in(tmp_path), latent_image=latent, denoise=part) - latent["samples"]).abs().mean())
        for part in (0.1, 0.9)
    )
    assert little < much / 2


def test_items_of_a_batch_are_painted_as_if_alone(models: ModelLibrary, tmp_path: Path) -> None:
    pair = sample(models, run_in(tmp_path), latent_image={"samples": torch.zeros(2, 4, 8, 8), "batch_index": [0, 1]})
    second = sample(models, run_in(tmp_path), latent_image={"samples": torch.zeros(1, 4, 8, 8), "batch_index": [1]})
    assert torch.allclose(pair[1:], second, atol=1e-3)


@pytest.mark.parametrize(
    ("latent", "what"),
    [(torch.ones(1, 16, 8, 8), "16 channels, the model works on 4"), (torch.ones(1, 4, 1, 8, 8), "4 dimensions")],
)
def test_a_latent_of_another_family_is_refused(
    latent: torch.Tensor, what: str, models: ModelLibrary, tmp_path: Path
) -> None:
    with pytest.raises(UnfitInput, match=what):
        sample(models, run_in(tmp_path), latent_image={"samples": latent})


def test_text_encoded_for_another_model_is_refused(models: ModelLibrary, tmp_path: Path) -> None:
    _, clip, _ = models.checkpoint("other.safetensors")
    with pytest.raises(UnfitInput, match=r"small\.safetensors takes \(batch, tokens, 64\)"):
        sample(models, run_in(tmp_path), positive=[(clip.read("cat")[0], {})])
    with pytest.raises(UnfitInput, match="conditioning is empty"):
        sample(models, run_in(tmp_path), positive=[])


def test_a_damaged_model_fails_instead_of_painting_black(models: ModelLibrary, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"broken\.safetensors gave values that are no numbers"):
        sample(models, run_in(tmp_path), checkpoint="broken.safetensors")


def test_pictures_go_into_latents_and_back(models: ModelLibrary, tmp_path: Path) -> None:
    _, _, vae = models.checkpoint("small.safetensors")
    (latent,) = call("VAEEncode", run_in(tmp_path), pixels=torch.rand(3, 30, 21, 4), vae=vae)
    assert latent["samples"].shape == (3, 4, 3, 2)
    (image,) = call("VAEDecode", run_in(tmp_path), samples=latent, vae=vae)
    assert image.shape == (3, 24, 16, 3)
    assert 0 <= image.min() <= image.max() <= 1


def test_what_the_vae_cannot_take_is_told(models: ModelLibrary, tmp_path: Path) -> None:
    _, _, vae = models.checkpoint("small.safetensors")
    with pytest.raises(UnfitInput, match="a picture of 64x7 with 3 channels"):
        call("VAEEncode", run_in(tmp_path), pixels=torch.rand(1, 7, 64, 3), vae=vae)
    with pytest.raises(UnfitInput, match=r"decodes \(batch, 4, height, width\)"):
        call("VAEDecode", run_in(tmp_path), samples={"samples": torch.zeros(1, 16, 8, 8)}, vae=vae)


def test_checkpoints_stay_loaded_until_there_is_no_room_or_the_file_changes(tmp_path: Path) -> None:
    weights = layout.keys(SMALL, layout.networks(SMALL))
    for name in ("a", "b", "c"):
        layout.save(tmp_path / f"checkpoints/{name}.safetensors", weights)
    models = ModelLibrary(ModelFolders([tmp_path]), CPU, keep=2)
    first, _, _ = models.checkpoint("a.safetensors")
    assert models.checkpoint("a.safetensors")[0] is first
    models.checkpoint("b.safetensors")
    models.checkpoint("a.safetensors")
    models.checkpoint("c.safetensors")
    assert models.resident() == ["a.safetensors", "c.safetensors"]
    layout.save(tmp_path / "checkpoints/a.safetensors", weights, config={"native_size": 8})
    assert models.checkpoint("a.safetensors")[0].model.native_size == 8
    models.unload()
    assert models.resident() == []


def test_the_built_in_model_paints_what_it_is_asked_for(tmp_path: Path) -> None:
    """A heart fills the middle with one colour and leaves the corners white; the whole way, as a user would."""
    run = run_in(tmp_path)
    run.ctx.services = {ModelLibrary: ModelLibrary(ModelFolders(), CPU)}
    assert (BUILTIN / "limner-demo.safetensors").exists()
    model, clip, vae = call("CheckpointLoaderSimple", run, ckpt_name="limner-demo.safetensors")
    positive, negative = (call("CLIPTextEncode", run, text=text, clip=clip)[0] for text in ("blue heart", ""))
    (latent,) = call("EmptyLatentImage", run, width=64, height=64, batch_size=1)
    (latent,) = call(
        "KSampler", run, model=model, seed=0, steps=20, cfg=3.5, sampler_name="dpmpp_2m", scheduler="karras",
        positive=positive, negative=negative, latent_image=latent, denoise=1.0,
    )  # fmt: skip
    (image,) = call("VAEDecode", run, samples=latent, vae=vae)
    picture = np.asarray(image[0])
    assert picture.shape == (64, 64, 3)
    assert picture[:6, :6].min() > 0.8
    red, _, blue = picture[24:40, 24:40].mean(axis=(0, 1))
    assert blue > red + 0.3
