"""Small models of each family of the Stable Diffusion kind, from file to latent, through the nodes."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.diffusion import noise
from limner.diffusion.schedules import sigmas
from limner.errors import UnfitInput
from limner.models.device import Devices
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.models.residency import use
from limner.nodes.conditioning import inpainting, joining, placing
from limner.nodes.model_patches import freeu
from limner.nodes.sampling.ksampler import ksampler
from tests.support.tiny import checkpoints
from tests.unit.nodes.contexts import run_in

KINDS: dict[str, Callable[[Path], Path]] = {
    "sd15": checkpoints.save_sd15,
    "sd2_v": checkpoints.save_sd2_v,
    "sdxl": checkpoints.save_sdxl,
    "refiner": checkpoints.save_sdxl_refiner,
}
INPAINTING = {"sd15_inpaint": checkpoints.save_sd15_inpaint, "sdxl_inpaint": checkpoints.save_sdxl_inpaint}
SETTINGS: dict[str, Any] = {"sampler_name": "euler", "scheduler": "normal", "steps": 2, "cfg": 2.5, "seed": 5}
EMPTY = {"samples": torch.zeros(1, 4, 9, 16)}  # 9 can be halved by no UNet


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelLibrary:
    root = tmp_path_factory.mktemp("models")
    for name, save in (KINDS | INPAINTING).items():
        save(root / f"checkpoints/{name}.safetensors")
    return ModelLibrary(ModelFolders([root]), Devices(device=torch.device("cpu"), half=None))


def loaded(models: ModelLibrary, name: str) -> tuple[Any, Any, Any, Any]:
    """Model, positive, negative, VAE."""
    model, clip, vae = models.checkpoint(f"{name}.safetensors")
    positive, negative = ([(context, {"pooled_output": pooled})] for context, pooled in map(clip.read, ("cat", "")))
    return model, positive, negative, vae


def sampled(path: Path, model: Any, positive: Any, negative: Any, **changes: Any) -> Tensor:
    given = {"latent_image": EMPTY, **SETTINGS, **changes}
    samples: Tensor = ksampler(run_in(path).ctx, model=model, positive=positive, negative=negative, **given)["samples"]
    return samples


@pytest.mark.parametrize("kind", KINDS)
def test_the_nodes_walk_as_euler_does_with_the_network_itself(kind: str, models: ModelLibrary, tmp_path: Path) -> None:
    """diffusers' own forward, side by side for the two texts, and Euler's method written down."""
    model, positive, negative, _ = loaded(models, kind)
    base = model.model
    levels = sigmas("normal", base.model_sampling.levels, 2)
    x = base.model_sampling.start(noise.initial(5, EMPTY["samples"]), EMPTY["samples"], levels[0])
    facts = {"noise": x, "latent_image": EMPTY["samples"], "denoise_mask": None, "device": x.device, "seed": 5}
    sides = []
    for prompt_type, ((context, extras),) in (("positive", positive), ("negative", negative)):
        told = {**facts, **extras, "cross_attn": context, "prompt_type": prompt_type}
        made = base.architecture.extra_conds(base, told)
        sides.append({name: each.value for name, each in made.items()})
    with use(model), torch.inference_mode():
        for now, then in pairwise(levels):
            time = base.model_sampling.levels.timestep(now)
            clean = []
            for side in sides:
                answer = base.diffusion_model(
                    base.model_sampling.network_input(x, now), time, encoder_hidden_states=side["c_crossattn"],
                    class_labels=side.get("y"), return_dict=False,
                )[0]  # fmt: skip
                clean.append(base.model_sampling.clean(x, answer, now))
            guided = clean[1] + 2.5 * (clean[0] - clean[1])
            x = x + (x - guided) / now * (then - now)
    expected = base.latent_format.out_of_network(x)
    got = sampled(tmp_path, model, positive, negative)
    assert torch.allclose(got, expected, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_areas_masks_and_ranges_go_through_every_family(kind: str, models: ModelLibrary, tmp_path: Path) -> None:
    model, positive, negative, _ = loaded(models, kind)
    parts = placing.set_area(conditioning=positive, width=64, height=64, x=32, y=8)
    parts = joining.combine(conditioning_1=parts, conditioning_2=positive)
    mask = torch.zeros(1, 72, 128)
    mask[:, 40:] = 1
    masked = placing.set_mask(conditioning=negative, mask=mask, set_cond_area="mask bounds")
    late = placing.set_timestep_range(conditioning=masked, start=0.4, end=1.0)
    both = joining.combine(conditioning_1=parts, conditioning_2=late)
    assert sampled(tmp_path, model, both, negative).isfinite().all()


@pytest.mark.parametrize("kind", INPAINTING)
def test_inpainting_models_paint_where_the_mask_is(kind: str, models: ModelLibrary, tmp_path: Path) -> None:
    model, positive, negative, vae = loaded(models, kind)
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    shown = inpainting.inpaint_model_conditioning(
        positive=positive, negative=negative, vae=vae, pixels=torch.rand(1, 64, 64, 3), mask=mask
    )
    samples = sampled(tmp_path, model, *shown[:2], latent_image=shown[2])
    start = shown[2]["samples"]
    assert torch.allclose(samples[..., :3], start[..., :3], atol=1e-4)
    assert not torch.allclose(samples[..., 5:], start[..., 5:], atol=1e-2)
    other = inpainting.inpaint_model_conditioning(
        positive=positive, negative=negative, vae=vae, pixels=torch.rand(1, 64, 64, 3), mask=mask
    )
    elsewhere = sampled(tmp_path, model, *other[:2], latent_image=shown[2])
    assert not torch.allclose(samples[..., 5:], elsewhere[..., 5:], atol=1e-4), "what is shown counts"


def test_freeu_changes_what_a_unet_paints(models: ModelLibrary, tmp_path: Path) -> None:
    model, positive, negative, _ = loaded(models, "sd15")
    plain, patched = (
        sampled(tmp_path, each, positive, negative) for each in (model, freeu.freeu(model=model, b2=1.4, s2=0.2))
    )
    assert not torch.allclose(plain, patched, atol=1e-3)
    assert torch.equal(plain, sampled(tmp_path, model, positive, negative)), "the model itself stays as it was"


def test_a_conditioning_of_another_family_is_refused(models: ModelLibrary, tmp_path: Path) -> None:
    model, _, _, _ = loaded(models, "sdxl")
    _, positive, negative, _ = loaded(models, "sd15")
    with pytest.raises(UnfitInput, match="encode the prompt with the text encoder of the same checkpoint"):
        sampled(tmp_path, model, positive, negative)
