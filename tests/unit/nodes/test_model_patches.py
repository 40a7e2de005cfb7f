from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.utils.torch_utils import apply_freeu
from torch import Tensor, nn

from limner.diffusion import denoiser, formats
from limner.diffusion.latents import LatentFormat
from limner.diffusion.levels import exponential_shift, scaled_linear, straight
from limner.diffusion.samplers import SAMPLERS
from limner.errors import UnfitInput
from limner.models.model import Model
from limner.models.sampling import CFGGuider, NoNoise
from limner.nodes.latent.sd3 import empty_sd3_latent
from limner.nodes.model_patches import freeu, guidance, precision, sampling_kinds
from tests.unit.models.sampling.closed import EXPLODING, STRAIGHT, closed, text

LATENT = torch.linspace(-2, 2, 4 * 8 * 8).reshape(1, 4, 8, 8)
LEVELS = torch.tensor([5.0, 3.0, 1.0, 0.0])


def sampled(model: Model, cfg: float = 3.0, **facts: Any) -> Tensor:
    guider = CFGGuider(model)
    guider.set_conds(text(1.0), text(-0.5))
    guider.set_cfg(cfg)
    levels = facts.pop("levels", LEVELS)
    return guider.sample(
        NoNoise().generate_noise({"samples": LATENT}), LATENT, SAMPLERS["euler"], levels, seed=1, **facts
    )


def changed_sampling(model: Model) -> Any:
    return model.model_sampling


@pytest.mark.parametrize(("sampling", "kind"), sampling_kinds.DISCRETE.items())
def test_a_network_of_steps_can_be_told_what_it_predicts(sampling: str, kind: Any) -> None:
    model, _ = closed(1.0)
    changed = sampling_kinds.model_sampling_discrete(model=model, sampling=sampling)
    assert type(changed_sampling(changed)) is kind
    assert changed_sampling(model) is EXPLODING
    assert changed_sampling(changed).levels.high == pytest.approx(14.6146, rel=1e-4)
    assert len(changed_sampling(changed).levels) == (50 if sampling == "lcm" else 1000)


def test_a_network_may_be_trained_down_to_no_picture() -> None:
    model, _ = closed(1.0)
    changed = sampling_kinds.model_sampling_discrete(model=model, sampling="v_prediction", zsnr=True)
    assert changed_sampling(changed).levels.high > 4000


@pytest.mark.parametrize(("sampling", "kind"), sampling_kinds.CONTINUOUS.items())
def test_a_network_of_any_level_can_be_told_what_it_predicts(sampling: str, kind: Any) -> None:
    model, _ = closed(1.0)
    changed = sampling_kinds.model_sampling_continuous_edm(
        model=model, sampling=sampling, sigma_max=80.0, sigma_min=0.01
    )
    known = changed_sampling(changed)
    assert type(known) is kind
    assert (known.levels.low, known.levels.high) == pytest.approx((0.01, 80.0), rel=1e-4)
    playground = sampling == "edm_playground_v2.5"
    assert changed.latent_format is (formats.PLAYGROUND_2_5 if playground else model.latent_format)


def test_other_kinds_of_levels() -> None:
    model, _ = closed(1.0)
    angle = changed_sampling(sampling_kinds.model_sampling_continuous_v(model=model, sampling="v_prediction"))
    assert (type(angle), angle.levels.high) == (denoiser.Velocity, pytest.approx(500.0, rel=1e-4))
    cascade = changed_sampling(sampling_kinds.model_sampling_stable_cascade(model=model, shift=2.0))
    assert (type(cascade), len(cascade.levels)) == (denoiser.Epsilon, 10000)


def test_flow_models_can_be_shifted() -> None:
    model, _ = closed(1.0)
    sd3 = changed_sampling(sampling_kinds.model_sampling_sd3(model=model, shift=8.0)).levels
    assert torch.equal(sd3.table, straight(8.0).table)
    assert float(sd3.timestep(torch.tensor(0.5))) == 500
    aura = changed_sampling(sampling_kinds.model_sampling_aura_flow(model=model, shift=1.73)).levels
    assert float(aura.timestep(torch.tensor(0.5))) == 0.5


@pytest.mark.parametrize(
    ("width", "height", "shift"), [(1024, 1024, 1.15), (256, 256, 0.5), (1024, 512, 0.5 + 0.65 * 1792 / 3840)]
)
def test_the_shift_of_flux_follows_the_size(width: int, height: int, shift: float) -> None:
    model, _ = closed(1.0)
    changed = sampling_kinds.model_sampling_flux(model=model, width=width, height=height)
    assert torch.allclose(changed_sampling(changed).levels.table, exponential_shift(shift).table, atol=1e-6)


def test_levels_that_are_none_are_refused() -> None:
    model, _ = closed(1.0)
    with pytest.raises(UnfitInput, match=r"sigma_min is 5\.0 and sigma_max 1\.0"):
        sampling_kinds.model_sampling_continuous_edm(model=model, sampling="eps", sigma_max=1.0, sigma_min=5.0)
    for shifted in (sampling_kinds.model_sampling_sd3, sampling_kinds.model_sampling_stable_cascade):
        with pytest.raises(UnfitInput, match=r"shift is 0\.0; it must be above 0"):
            shifted(model=model, shift=0.0)


def test_what_a_node_changes_is_what_is_sampled_with() -> None:
    """A flow model that is used as one of another shift walks other levels."""
    model, architecture = closed(1.0, prediction=STRAIGHT)
    levels = torch.tensor([0.9, 0.5, 0.0])
    sampled(sampling_kinds.model_sampling_sd3(model=model, shift=1.0), levels=levels)
    assert [call.sigma for call in architecture.calls] == pytest.approx([0.9, 0.5])


def test_rescaled_guidance_has_the_spread_of_the_positive_answer() -> None:
    model, _ = closed(torch.linspace(0, 1, 4).reshape(1, 4, 1, 1))
    seen: list[Tensor] = []

    def look(told: dict[str, Any]) -> Tensor:
        sigma = told["sigma"].reshape(-1, 1, 1, 1)
        x = told["input"]
        for clean in (told["denoised"], told["cond_denoised"]):
            seen.append((x / (sigma**2 + 1) - clean) * (sigma**2 + 1).sqrt() / sigma)
        return told["denoised"]

    changed = guidance.rescale_cfg(model=model, multiplier=1.0)
    changed.set_model_sampler_post_cfg_function(look)
    sampled(changed, levels=torch.tensor([5.0, 0.0]))
    guided, positive = seen
    assert float(guided.std()) == pytest.approx(float(positive.std()), rel=1e-4)


def test_rescaling_by_nothing_changes_nothing() -> None:
    model, _ = closed(2.0)
    assert torch.allclose(sampled(guidance.rescale_cfg(model=model, multiplier=0.0)), sampled(model), atol=1e-4)


def test_a_grey_mask_says_how_early_a_place_is_painted() -> None:
    model, architecture = closed(3.0)
    mask = torch.cat([torch.full((1, 8, 2), grey) for grey in (0.0, 0.3, 0.7, 1.0)], dim=2)
    levels = torch.tensor([14.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.2, 0.0])
    changed = guidance.differential_diffusion(model=model)
    painted = sampled(changed, levels=levels, denoise_mask=mask, cfg=1.0)
    assert torch.allclose(painted[..., :2], LATENT[..., :2], atol=1e-4)
    share = [float((painted - LATENT)[..., column].abs().mean()) for column in (2, 4, 6)]
    assert share == sorted(share)
    known = EXPLODING.levels
    places = [float(known.timestep(level)) for level in (levels[0], levels[-1].clamp(min=known.low))]
    begun = [[False] * 3]
    for call in architecture.calls:
        still = [torch.equal(call.x[..., column], LATENT[..., column]) for column in (2, 4, 6)]
        assert still == [not each for each in begun[-1]], "a place moves once its painting has begun"
        part = (float(known.timestep(torch.tensor(call.sigma))) - places[1]) / (places[0] - places[1])
        begun.append([grey >= part for grey in (0.3, 0.7, 1.0)])
    assert begun[1] == [False, False, True]
    assert begun[-1] == [True, True, True]


def test_a_grey_mask_may_count_in_part_itself() -> None:
    model, _ = closed(3.0)
    mask = torch.full((1, 8, 8), 0.5)
    plain = sampled(model, denoise_mask=mask)
    assert torch.allclose(
        sampled(guidance.differential_diffusion(model=model, strength=0.0), denoise_mask=mask), plain, atol=1e-5
    )
    assert not torch.allclose(sampled(guidance.differential_diffusion(model=model), denoise_mask=mask), plain, atol=0.1)


def test_skipped_layers_are_led_away_from_during_their_range() -> None:
    model, architecture = closed(2.0)
    at = EXPLODING.levels.at
    levels = torch.tensor([at(0.1), at(0.4), at(0.8), 0.0])
    changed = guidance.skip_layer_guidance(model=model, layers="3, 5", scale=2.0, start_percent=0.3, end_percent=0.5)
    samples = sampled(changed, levels=levels)
    skipping = [call for call in architecture.calls if "patches_replace" in call.options]
    assert [call.sigma for call in skipping] == pytest.approx([at(0.4)])
    assert set(skipping[0].options["patches_replace"]["dit"]) == {("double_block", 3), ("double_block", 5)}
    assert skipping[0].text == [1.0]
    block = skipping[0].options["patches_replace"]["dit"]["double_block", 3]
    assert block({"img": 1, "txt": 2}, {}) == {"img": 1, "txt": 2}
    assert torch.allclose(samples, sampled(model, levels=levels), atol=1e-5), "a model without such layers stays"


@pytest.mark.parametrize("facts", [{"layers": ""}, {"layers": "none"}, {"scale": 0.0}])
def test_without_layers_or_scale_the_model_stays_as_it_is(facts: dict[str, Any]) -> None:
    model, _ = closed(2.0)
    assert guidance.skip_layer_guidance(model=model, **facts) is model


def patch_of(model: Model) -> Any:
    (patch,) = model.model_options["transformer_options"]["patches"]["output_block_patch"]
    return patch


def with_unet() -> Model:
    model, _ = closed(1.0)
    model.model.diffusion_model.conv_in = nn.Conv2d(4, 16, 3)
    return model


def test_freeu_strengthens_what_its_authors_do() -> None:
    drawn = torch.Generator().manual_seed(0)
    patch = patch_of(freeu.freeu(model=with_unet(), b1=1.1, b2=1.2, s1=0.9, s2=0.2))
    for stage, width in ((0, 64), (1, 32), (2, 16)):
        h, skip = (torch.randn(2, width, 6, 8, generator=drawn) for _ in range(2))
        mine = patch(h.clone(), skip.clone(), {})
        if stage == 0:  # diffusers counts blocks, and its first two have the widths 4 and 2 times the first
            theirs = apply_freeu(0, h.clone(), skip.clone(), b1=1.1, b2=1.2, s1=0.9, s2=0.2)
        elif stage == 1:
            theirs = apply_freeu(1, h.clone(), skip.clone(), b1=1.1, b2=1.2, s1=0.9, s2=0.2)
        else:
            theirs = (h, skip)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(mine, theirs, strict=True))


def test_the_second_freeu_strengthens_by_the_mean() -> None:
    patch = patch_of(freeu.freeu_v2(model=with_unet(), b1=1.5, s1=1.0))
    h = torch.arange(4.0).reshape(1, 1, 2, 2).expand(1, 64, 2, 2)
    changed, skip = patch(h, torch.ones(1, 64, 2, 2), {})
    assert torch.allclose(changed[0, 0], torch.tensor([[0.0, 1 * (1 + 0.5 / 3)], [2 * (1 + 1 / 3), 3 * 1.5]]))
    assert torch.equal(changed[:, 32:], h[:, 32:])
    assert torch.allclose(skip, torch.ones(1, 64, 2, 2), atol=1e-6)
    flat, _ = patch(torch.ones(1, 64, 1, 1), torch.ones(1, 64, 1, 1), {})
    assert flat.isfinite().all()


def test_freeu_is_refused_for_what_has_no_unet() -> None:
    with pytest.raises(UnfitInput, match="FreeU is for models with a UNet"):
        freeu.freeu(model=closed(1.0)[0])


def test_a_precision_is_set_and_taken_back() -> None:
    model, _ = closed(1.0)
    half = precision.model_compute_dtype(model=model, dtype="bf16")
    assert (half.dtype, half.get_model_object("dtype")) == (torch.bfloat16, torch.bfloat16)
    assert model.get_model_object("dtype") == torch.float32
    back = precision.model_compute_dtype(model=half, dtype="default")
    assert (back.dtype, back.get_model_object("dtype")) == (torch.float32, torch.float32)


def test_a_precision_is_the_one_that_the_network_runs_in() -> None:
    model, architecture = closed(1.0)
    seen: list[torch.dtype] = []
    model.model_options["transformer_options"]["patches"] = {}
    changed = precision.model_compute_dtype(model=model, dtype="bf16")
    guider = CFGGuider(changed)
    guider.set_conds(text(1.0), text(0.0))
    guider.sample(
        torch.zeros_like(LATENT), LATENT, SAMPLERS["euler"], LEVELS, seed=1,
        callback=lambda *_: seen.append(next(changed.module.parameters()).dtype),
    )  # fmt: skip
    assert {call.x.dtype for call in architecture.calls} == {torch.bfloat16}
    assert seen == [torch.bfloat16] * 3


def test_the_empty_latent_of_sixteen_channels() -> None:
    latent = empty_sd3_latent(width=128, height=64, batch_size=3)
    assert latent["samples"].shape == (3, 16, 8, 16)


def test_the_table_of_a_stable_diffusion_model_is_the_usual_one(tmp_path: Path) -> None:
    model, _ = closed(1.0, latents=LatentFormat(channels=4, stride=8, scale=1.0))
    changed = sampling_kinds.model_sampling_discrete(model=model, sampling="eps")
    assert torch.equal(changed_sampling(changed).levels.table, scaled_linear(0.00085, 0.012, steps=1000).table)
