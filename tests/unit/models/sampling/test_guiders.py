"""Whole walks with a model that is known in closed form."""

from typing import Any

import pytest
import torch
from torch import Tensor

from limner.diffusion import noise
from limner.diffusion.denoiser import Prediction
from limner.diffusion.latents import LatentFormat
from limner.diffusion.samplers import SAMPLERS
from limner.diffusion.sampling import Walk
from limner.diffusion.schedules import section, sigmas
from limner.errors import Interrupted, ModelFileError, UnfitInput
from limner.models.sampling import BasicGuider, CFGGuider, DualCFGGuider, NoNoise, RandomNoise
from tests.unit.diffusion.pictures import Normal
from tests.unit.diffusion.recorded import LATENTS as RECORDED
from tests.unit.diffusion.recorded import SAMPLED
from tests.unit.models.sampling.closed import EXPLODING, STRAIGHT, closed, text

SHAPE = (2, 4, 8, 8)
LATENT = torch.linspace(-2, 2, 2 * 4 * 8 * 8).reshape(SHAPE)
EITHER = pytest.mark.parametrize("prediction", [EXPLODING, STRAIGHT], ids=["exploding", "straight"])


def guider_of(model: Any, positive: Any, negative: Any, cfg: float = 1.0) -> CFGGuider:
    guider = CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


def walk(guider: CFGGuider, name: str = "euler", steps: int = 4, latent: Tensor = LATENT, **facts: Any) -> Tensor:
    levels = facts.pop("levels", None)
    if levels is None:
        levels = sigmas("normal", guider.inner_model.model_sampling.levels, steps)
    drawn = facts.pop("noise", None)
    if drawn is None:
        drawn = RandomNoise(9).generate_noise({"samples": latent})
    return guider.sample(drawn, latent, SAMPLERS[name], levels, seed=9, **facts)


@pytest.mark.parametrize("key", [key for key in SAMPLED["runs"] if key.split("/")[1] == "normal"])
def test_every_sampler_ends_where_the_recorded_one_did_through_a_guider(key: str) -> None:
    kind, schedule, name = key.split("/")
    prediction: Prediction = EXPLODING if kind == "sd15_eps" else STRAIGHT
    model, _ = closed(torch.from_numpy(RECORDED["mu"]), prediction=prediction, spread=SAMPLED["sd"])
    sampler, empty = SAMPLERS[name], torch.zeros(SAMPLED["shape"])
    levels = sigmas(schedule, prediction.levels, SAMPLED["steps"], skip_next_to_last=sampler.skip_next_to_last)
    told: list[int] = []
    samples = guider_of(model, text(1.0), text(-0.5)).sample(
        RandomNoise(SAMPLED["seed"]).generate_noise({"samples": empty}),
        empty,
        sampler,
        levels,
        callback=lambda step, *_: told.append(step),
        seed=SAMPLED["seed"],
    )
    assert float((samples - torch.from_numpy(RECORDED[key])).abs().max()) < 1e-4
    assert told == SAMPLED["runs"][key]["callback_steps"]


@EITHER
def test_guidance_leads_beyond_the_positive(prediction: Prediction) -> None:
    """A denoiser is linear in its mean, so guidance is a walk towards another mean."""
    model, _ = closed(2.0, prediction=prediction)
    samples = walk(guider_of(model, text(1.0), text(-0.5), cfg=3.0))
    plain = walk(guider_of(model, text(-0.5 + 3 * 1.5), text(0.0)))
    assert torch.allclose(samples, plain, atol=1e-4)


@pytest.mark.parametrize(("cfg", "asked"), [(1.0, [1.0]), (1.5, [-0.5, 1.0])])
def test_at_scale_one_the_negative_is_not_asked(cfg: float, asked: list[float]) -> None:
    model, closed_form = closed(2.0)
    walk(guider_of(model, text(1.0), text(-0.5), cfg=cfg), latent=LATENT[:1])
    assert [call.text for call in closed_form.calls] == [asked] * 4


def test_both_sides_are_asked_in_one_call_with_texts_of_unequal_length() -> None:
    model, closed_form = closed(2.0)
    walk(guider_of(model, text(1.0, tokens=6), text(-0.5, tokens=4), cfg=2.0), steps=1, latent=LATENT[:1])
    assert [call.text for call in closed_form.calls] == [[-0.5, 1.0]]
    assert closed_form.calls[0].options["cond_or_uncond"] == [1, 0]


@EITHER
@pytest.mark.parametrize("name", ["euler", "heun", "dpm_2"])
@pytest.mark.parametrize("at", [1, 4, 9])
def test_a_walk_in_two_parts_is_the_whole_walk(prediction: Prediction, name: str, at: int) -> None:
    model, _ = closed(2.0, prediction=prediction)
    guider, levels = guider_of(model, text(1.0), text(-0.5), 2.0), sigmas("normal", prediction.levels, 10)
    first = walk(guider, name, levels=section(levels, 0, at, leftover=True))
    none = NoNoise().generate_noise({"samples": first})
    second = walk(guider, name, levels=section(levels, at), latent=first, noise=none)
    assert torch.allclose(second, walk(guider, name, levels=levels), atol=1e-4)


def test_a_guider_with_one_side_never_asks_for_another() -> None:
    model, closed_form = closed(2.0)
    guider = BasicGuider(model)
    guider.set_conds(text(1.0))
    assert torch.equal(walk(guider), walk(guider_of(model, text(1.0), text(5.0))))
    assert {tuple(call.text) for call in closed_form.calls} == {(1.0, 1.0)}


@pytest.mark.parametrize(("nested", "mean"), [(False, -1 + 2 * (0.5 + 1) + 3 * (1 - 0.5)), (True, -1 + 2 * (2.0 + 1))])
def test_two_scales_lead_by_way_of_a_middle(nested: bool, mean: float) -> None:
    """From -1 twice to 0.5, from there three times to 1; nested, three times from 0.5 to 1 is 2, and twice there."""
    model, _ = closed(1.0)
    guider = DualCFGGuider(model)
    guider.set_conds(text(1.0), text(0.5), text(-1.0))
    guider.set_cfg(3.0, 2.0, nested=nested)
    assert torch.allclose(walk(guider), walk(guider_of(model, text(mean), text(0.0))), atol=1e-4)


def test_with_two_scales_of_one_only_the_positive_is_asked() -> None:
    model, closed_form = closed(1.0)
    guider = DualCFGGuider(model)
    guider.set_conds(text(1.0), text(0.5), text(-1.0))
    guider.set_cfg(1.0, 1.0)
    walk(guider, latent=LATENT[:1])
    assert {tuple(call.text) for call in closed_form.calls} == {(1.0,)}


@EITHER
@pytest.mark.parametrize("name", ["euler", "ddim", "dpmpp_2m", "euler_ancestral"])
def test_what_a_mask_keeps_comes_back_as_it_was(prediction: Prediction, name: str) -> None:
    model, closed_form = closed(3.0, prediction=prediction)
    mask = torch.zeros(64, 64)
    mask[:, 32:] = 1
    samples = walk(guider_of(model, text(1.0), text(0.0)), name, denoise_mask=mask)
    assert torch.allclose(samples[..., :3], LATENT[..., :3], atol=1e-4)
    assert ((samples[..., 5:] - LATENT[..., 5:]).abs() > 0.1).float().mean() > 0.9
    assert closed_form.facts[0]["denoise_mask"].shape == (1, 1, 8, 8), "the family is told of it, in the latent's size"


def test_a_mask_may_follow_the_level_and_is_told_of_the_guider() -> None:
    model, _ = closed(3.0)
    changed = model.clone()
    seen = []

    def all_of_it(sigma: Tensor, mask: Tensor, extra_options: dict[str, Any]) -> Tensor:
        seen.append((sigma.shape, len(extra_options["sigmas"]), extra_options["model"].inner_model.name))
        return torch.ones_like(mask)

    changed.set_model_denoise_mask_function(all_of_it)
    conds = text(1.0), text(0.0)
    masked = walk(guider_of(changed, *conds), denoise_mask=torch.zeros(8, 8))
    assert torch.allclose(masked, walk(guider_of(model, *conds)), atol=1e-5)
    assert seen == [((1,), 5, "closed")] * 4


def test_an_empty_latent_stays_empty_in_a_space_whose_middle_is_elsewhere() -> None:
    shifted = LatentFormat(channels=4, stride=8, scale=2.0, shift=0.5)
    model, closed_form = closed(1.0, prediction=STRAIGHT, latents=shifted)
    empty = torch.zeros(1, 4, 8, 8)
    samples = walk(guider_of(model, text(1.0), text(0.0)), latent=empty)
    pictures = Normal(torch.ones(1, 4, 8, 8), 0.7, STRAIGHT.path)
    run = Walk(prediction=STRAIGHT, sampler=SAMPLERS["euler"], sigmas=sigmas("normal", STRAIGHT.levels, 4), seed=9)
    assert torch.allclose(samples, run.run(pictures, empty) / 2 + 0.5, atol=1e-5)
    assert closed_form.facts[0]["latent_image"].count_nonzero() == 0
    walk(guider_of(model, text(1.0), text(0.0)), latent=empty + 1)
    assert torch.allclose(closed_form.facts[-1]["latent_image"], torch.ones(1, 4, 8, 8)), "(1 - 0.5) * 2"


def test_a_part_of_the_base_model_can_be_replaced_for_one_user() -> None:
    model, _ = closed(1.0)
    flow = model.clone()
    flow.add_object_patch("model_sampling", STRAIGHT)
    levels = sigmas("normal", STRAIGHT.levels, 4)
    other, _ = closed(1.0, prediction=STRAIGHT)
    conds = text(1.0), text(0.0)
    assert torch.equal(walk(guider_of(flow, *conds), levels=levels), walk(guider_of(other, *conds), levels=levels))
    assert model.model_sampling is EXPLODING


def test_a_part_of_the_network_is_replaced_while_the_walk_lasts() -> None:
    model, _ = closed(1.0)
    changed, weight, seen = model.clone(), model.model.diffusion_model.weight, []
    changed.add_object_patch("diffusion_model.in_features", "replaced")
    guider = guider_of(changed, text(1.0), text(0.0))
    walk(guider, callback=lambda *_: seen.append(guider.inner_model.diffusion_model.in_features))
    assert seen == ["replaced"] * 4
    assert model.model.diffusion_model.in_features == 2
    assert model.model.diffusion_model.weight is weight
    changed.add_object_patch("diffusion_model.nothing.there", 1)
    with pytest.raises(UnfitInput, match=r"no part diffusion_model\.nothing\.there"):
        walk(guider)


def test_the_callback_gets_step_clean_x_and_their_number() -> None:
    model, _ = closed(1.0)
    told: list[tuple[int, Tensor, Tensor, int]] = []
    walk(guider_of(model, text(1.0), text(0.0)), callback=lambda *given: told.append(given))
    assert [(step, steps) for step, _, _, steps in told] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    start = EXPLODING.start(noise.initial(9, LATENT), LATENT, sigmas("normal", EXPLODING.levels, 4)[0])
    assert torch.allclose(told[0][2], start)
    pictures = Normal(torch.ones(SHAPE), 0.7)
    assert torch.allclose(told[0][1], pictures(start, sigmas("normal", EXPLODING.levels, 4)[0]), atol=1e-5)


def test_what_comes_out_can_be_changed_in_place() -> None:
    model, _ = closed(1.0)
    samples = walk(guider_of(model, text(1.0), text(0.0)))
    samples += 1
    assert not samples.is_inference()


def test_a_sampler_of_a_pack_gets_what_it_needs() -> None:
    model, _ = closed(2.0)

    class OneStep:
        def sample(
            self, model_wrap: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, noise: Tensor,
            latent_image: Tensor, denoise_mask: Any, disable_pbar: bool,
        ) -> Tensor:  # fmt: skip
            x = model_wrap.inner_model.model_sampling.start(noise, latent_image, sigmas[0])
            clean: Tensor = model_wrap(x, sigmas[0].expand(len(x)), **extra_args)
            callback(0, clean, x, 1)
            return clean

    levels, told = sigmas("normal", EXPLODING.levels, 1), []
    guider = guider_of(model, text(1.0), text(-0.5), cfg=2.0)
    drawn = RandomNoise(9).generate_noise({"samples": LATENT})
    samples = guider.sample(drawn, LATENT, OneStep(), levels, callback=lambda *given: told.append(given[0]), seed=9)
    assert torch.allclose(samples, walk(guider, levels=levels), atol=1e-5)
    assert told == [0]


def test_a_guider_of_a_pack_says_itself_what_it_expects() -> None:
    model, closed_form = closed(2.0)

    class Still(CFGGuider):
        def predict_noise(self, x: Tensor, timestep: Tensor, model_options: Any = None, seed: Any = None) -> Tensor:
            assert timestep.shape == (len(x),)
            assert set(self.conds) == {"held"}
            return torch.full_like(x, 5.0)

    guider = Still(model)
    guider.inner_set_conds({"held": text(1.0)})
    assert torch.allclose(walk(guider), torch.full(SHAPE, 5.0), atol=1e-4)
    assert closed_form.calls == []
    with pytest.raises(UnfitInput, match="does not end in cfg_pp"):
        walk(guider, "euler_cfg_pp")


@pytest.mark.parametrize("levels", [torch.empty(0), torch.tensor([3.0])])
def test_without_steps_the_latent_comes_back(levels: Tensor) -> None:
    model, _ = closed(1.0)
    assert walk(guider_of(model, text(1.0), text(0.0)), levels=levels) is LATENT


def test_a_rising_schedule_leads_from_a_picture_to_noise_and_back() -> None:
    model, _ = closed(1.0)
    guider = guider_of(model, text(1.0), text(0.0))
    down = sigmas("karras", EXPLODING.levels, 400)
    up = down.flip(0)
    up[0] = 1e-4
    none = torch.zeros(SHAPE)
    noised = walk(guider, levels=up, noise=none)
    assert 13 < float(noised.std()) < 40
    assert torch.allclose(walk(guider, levels=down, latent=noised, noise=none), LATENT, atol=0.05)


@pytest.mark.parametrize(
    ("levels", "what"),
    [
        (torch.tensor([3.0, torch.nan, 0.0]), "must be numbers that are not below 0; these are 3, nan, 0"),
        (torch.tensor([3.0, -1.0]), "not below 0"),
        (torch.tensor([torch.inf, 0.0]), "not below 0"),
        (torch.ones(2, 2), r"not of the shape \(2, 2\)"),
    ],
)
def test_sigmas_that_are_no_levels_are_refused(levels: Tensor, what: str) -> None:
    model, _ = closed(1.0)
    with pytest.raises(UnfitInput, match=what):
        walk(guider_of(model, text(1.0), text(0.0)), levels=levels)


@pytest.mark.parametrize("cfg", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_refused(cfg: float) -> None:
    model, _ = closed(1.0)
    with pytest.raises(UnfitInput, match=r"cfg is (nan|inf); it must be a number"):
        guider_of(model, text(1.0), text(0.0), cfg=cfg)
    with pytest.raises(UnfitInput, match="cfg is"):
        DualCFGGuider(model).set_cfg(1.0, cfg)


def test_noise_of_another_shape_and_empty_conditionings_are_refused() -> None:
    model, _ = closed(1.0)
    with pytest.raises(UnfitInput, match=r"the noise has the shape \(1, 4, 8, 8\), the latent \(2, 4, 8, 8\)"):
        walk(guider_of(model, text(1.0), text(0.0)), noise=torch.zeros(1, 4, 8, 8))
    with pytest.raises(UnfitInput, match="the conditioning is empty"):
        guider_of(model, [], text(0.0))


def test_values_that_are_no_numbers_are_told_where_they_come_in() -> None:
    model, architecture = closed(1.0)
    with pytest.raises(UnfitInput, match="the latent that came in has values that are no numbers"):
        walk(guider_of(model, text(1.0), text(0.0)), latent=LATENT * torch.nan)
    with pytest.raises(UnfitInput, match="the weights of the text encoder may be damaged"):
        walk(guider_of(model, text(1.0), text(torch.nan)))
    assert architecture.calls == []


def test_values_that_are_no_numbers_are_told_with_the_model_s_name() -> None:
    model, _ = closed(float("nan"))
    with pytest.raises(ModelFileError, match="closed gave values that are no numbers"):
        walk(guider_of(model, text(1.0), text(0.0)))


def test_an_interrupt_ends_the_walk_and_leaves_the_guider_ready() -> None:
    model, _ = closed(1.0)
    guider = guider_of(model, text(1.0), text(0.0))

    def stop(step: int, *_: Any) -> None:
        if step == 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        walk(guider, callback=stop)
    assert guider.conds == {}
    assert walk(guider).isfinite().all()


def test_items_that_share_a_draw_start_alike_and_a_draw_depends_on_its_number_alone() -> None:
    drawn = RandomNoise(3).generate_noise({"samples": torch.zeros(3, 4, 8, 8), "batch_index": [2, 0, 2]})
    assert torch.equal(drawn[0], drawn[2])
    alone = RandomNoise(3).generate_noise({"samples": torch.zeros(1, 4, 8, 8), "batch_index": [2]})
    assert torch.equal(drawn[:1], alone)


@pytest.mark.parametrize(
    ("places", "what"), [([0], "names 1 draws of noise for a batch of 2"), ([0, -1], "has -1 in it")]
)
def test_a_batch_index_that_does_not_fit_is_told(places: list[int], what: str) -> None:
    with pytest.raises(UnfitInput, match=what):
        RandomNoise(3).generate_noise({"samples": torch.zeros(2, 4, 8, 8), "batch_index": places})
