"""Sampling in parts, with a model that is known in closed form."""

from pathlib import Path
from typing import Any

import pytest
import torch

from limner.diffusion.denoiser import Epsilon
from limner.diffusion.latents import LatentFormat
from limner.diffusion.samplers import SAMPLERS
from limner.errors import Interrupted, ModelFileError, UnfitInput
from limner.nodes.conditioning import joining, placing
from limner.nodes.sampling import custom, guiders, samplers, schedulers, sigmas
from limner.nodes.sampling.ksampler import ksampler, ksampler_advanced
from tests.unit.models.sampling.closed import EXPLODING, STRAIGHT, closed, text
from tests.unit.nodes.contexts import run_in

LATENT = {"samples": torch.linspace(-2, 2, 4 * 8 * 8).reshape(1, 4, 8, 8)}
SETTINGS: dict[str, Any] = {"sampler_name": "euler", "scheduler": "normal", "steps": 6, "cfg": 2.0}


def simple(path: Path, model: Any, **changes: Any) -> torch.Tensor:
    given = {"positive": text(1.0), "negative": text(-0.5), "latent_image": LATENT, "seed": 7, **SETTINGS, **changes}
    samples: torch.Tensor = ksampler(run_in(path).ctx, model=model, **given)["samples"]
    return samples


def advanced(path: Path, model: Any, **changes: Any) -> torch.Tensor:
    given = {
        "positive": text(1.0), "negative": text(-0.5), "latent_image": LATENT, "noise_seed": 7, "add_noise": "enable",
        "start_at_step": 0, "end_at_step": 10000, "return_with_leftover_noise": "disable", **SETTINGS, **changes,
    }  # fmt: skip
    samples: torch.Tensor = ksampler_advanced(run_in(path).ctx, model=model, **given)["samples"]
    return samples


EITHER = pytest.mark.parametrize("prediction", [EXPLODING, STRAIGHT], ids=["exploding", "straight"])


@EITHER
@pytest.mark.parametrize("name", ["euler", "heun", "dpm_2", "uni_pc"])
def test_the_advanced_sampler_walks_as_the_simple_one(name: str, prediction: Any, tmp_path: Path) -> None:
    model, _ = closed(2.0, prediction=prediction)
    assert torch.equal(advanced(tmp_path, model, sampler_name=name), simple(tmp_path, model, sampler_name=name))


@EITHER
@pytest.mark.parametrize("name", ["euler", "heun"])
@pytest.mark.parametrize("at", [1, 3, 5])
def test_two_parts_of_a_walk_are_one(at: int, name: str, prediction: Any, tmp_path: Path) -> None:
    model, _ = closed(2.0, prediction=prediction)
    first = advanced(tmp_path, model, sampler_name=name, end_at_step=at, return_with_leftover_noise="enable")
    second = advanced(
        tmp_path, model, sampler_name=name, start_at_step=at, add_noise="disable", latent_image={"samples": first}
    )
    assert torch.allclose(second, simple(tmp_path, model, sampler_name=name), atol=1e-4)


def test_a_walk_that_ends_early_may_take_the_last_step_to_no_noise(tmp_path: Path) -> None:
    model, architecture = closed(2.0)
    advanced(tmp_path, model, end_at_step=2)
    assert len(architecture.calls) == 2
    noisy = advanced(tmp_path, model, end_at_step=2, return_with_leftover_noise="enable")
    clean = advanced(tmp_path, model, end_at_step=2)
    assert float(noisy.std()) > float(clean.std())


@pytest.mark.parametrize("steps", [(6, 6), (5, 3), (10000, 10000), (0, 0)])
def test_a_start_at_or_beyond_the_end_leaves_the_latent(steps: tuple[int, int], tmp_path: Path) -> None:
    model, architecture = closed(2.0)
    assert torch.equal(advanced(tmp_path, model, start_at_step=steps[0], end_at_step=steps[1]), LATENT["samples"])
    assert architecture.calls == []


def test_denoise_of_nothing_leaves_the_latent_and_of_half_begins_half_way(tmp_path: Path) -> None:
    model, architecture = closed(2.0)
    assert torch.equal(simple(tmp_path, model, denoise=0.0), LATENT["samples"])
    simple(tmp_path, model, denoise=0.5)
    levels = schedulers.basic_scheduler(model=model, scheduler="normal", steps=12)
    assert architecture.calls[0].sigma == pytest.approx(float(levels[-7]))
    assert len(architecture.calls) == 6


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"steps": 0}, "steps is 0; at least one step is needed"),
        ({"denoise": float("nan")}, "denoise is nan"),
        ({"denoise": 1.5}, "a part of the whole way, from 0 to 1"),
        ({"cfg": float("nan")}, "cfg is nan; it must be a number"),
        ({"cfg": float("inf")}, "cfg is inf"),
        ({"positive": []}, "the conditioning is empty"),
        ({"scheduler": "none"}, "there is no scheduler 'none'; there are simple, "),
        ({"latent_image": {"samples": torch.ones(1, 16, 8, 8)}}, "16 channels, the model works on 4"),
        (
            {"latent_image": {"samples": torch.zeros(2, 4, 8, 8), "batch_index": [0]}},
            "1 draws of noise for a batch of 2",
        ),
    ],
)
def test_what_does_not_go_together_is_told(change: dict[str, Any], what: str, tmp_path: Path) -> None:
    model, _ = closed(2.0)
    with pytest.raises(UnfitInput, match=what):
        simple(tmp_path, model, **change)


def test_an_empty_latent_is_widened_to_the_model_s_channels(tmp_path: Path) -> None:
    model, _ = closed(2.0, latents=LatentFormat(channels=6, stride=8, scale=1.0))
    latent = {"samples": torch.zeros(2, 4, 8, 8), "kept": "as it was"}
    end = ksampler(
        run_in(tmp_path).ctx,
        model=model,
        positive=text(1.0),
        negative=text(0.0),
        latent_image=latent,
        seed=1,
        **SETTINGS,
    )
    assert end["samples"].shape == (2, 6, 8, 8)
    assert end["kept"] == "as it was"


def test_the_parts_together_walk_as_the_simple_sampler(tmp_path: Path) -> None:
    model, _ = closed(2.0)
    guider = guiders.cfg_guider(model=model, positive=text(1.0), negative=text(-0.5), cfg=2.0)
    levels = schedulers.basic_scheduler(model=model, scheduler="normal", steps=6)
    output, clean = custom.sampler_custom_advanced(
        run_in(tmp_path).ctx, noise=custom.random_noise(noise_seed=7), guider=guider,
        sampler=samplers.ksampler_select(sampler_name="euler"), sigmas=levels, latent_image=LATENT,
    )  # fmt: skip
    assert torch.equal(output["samples"], simple(tmp_path, model))
    assert torch.allclose(clean["samples"], output["samples"], atol=1e-5), (
        "the last step of Euler ends at what it expects"
    )


def test_the_expected_picture_of_a_walk_that_stops_early_has_no_noise(tmp_path: Path) -> None:
    model, _ = closed(2.0, spread=0.0)
    levels = schedulers.basic_scheduler(model=model, scheduler="normal", steps=6)[:3]
    output, clean = custom.sampler_custom(
        run_in(tmp_path).ctx, model=model, add_noise=True, noise_seed=7, cfg=1.0, positive=text(1.0),
        negative=text(0.0), sampler=SAMPLERS["euler"], sigmas=levels, latent_image=LATENT,
    )  # fmt: skip
    assert torch.allclose(clean["samples"], torch.full((1, 4, 8, 8), 2.0))
    assert float(output["samples"].std()) > 1


def test_parts_of_a_schedule_are_walked_one_after_the_other(tmp_path: Path) -> None:
    model, _ = closed(2.0)
    guider = guiders.basic_guider(model=model, conditioning=text(1.0))
    whole = schedulers.karras_scheduler(steps=8)
    high, low = sigmas.split_sigmas(sigmas=whole, step=3)
    ctx, sampler = run_in(tmp_path).ctx, SAMPLERS["euler"]
    noise = custom.random_noise(noise_seed=7)
    first, _ = custom.sampler_custom_advanced(
        ctx, noise=noise, guider=guider, sampler=sampler, sigmas=high, latent_image=LATENT
    )
    second, _ = custom.sampler_custom_advanced(
        ctx, noise=custom.disable_noise(), guider=guider, sampler=sampler, sigmas=low, latent_image=first
    )
    at_once, _ = custom.sampler_custom_advanced(
        ctx, noise=noise, guider=guider, sampler=sampler, sigmas=whole, latent_image=LATENT
    )
    assert torch.allclose(second["samples"], at_once["samples"], atol=1e-4)


def test_without_a_schedule_both_outputs_are_the_latent(tmp_path: Path) -> None:
    model, _ = closed(2.0)
    output, clean = custom.sampler_custom_advanced(
        run_in(tmp_path).ctx, noise=custom.disable_noise(), sampler=SAMPLERS["euler"], sigmas=torch.empty(0),
        guider=guiders.basic_guider(model=model, conditioning=text(1.0)), latent_image=LATENT,
    )  # fmt: skip
    assert output["samples"] is clean["samples"] is LATENT["samples"]


def test_two_scales_through_the_node(tmp_path: Path) -> None:
    model, _ = closed(1.0, spread=0.0)
    conds = {"cond1": text(1.0), "cond2": text(0.5), "negative": text(-1.0)}
    for style, mean in (("regular", -1 + 2 * 1.5 + 3 * 0.5), ("nested", -1 + 2 * 3.0)):
        guider = guiders.dual_cfg_guider(model=model, **conds, cfg_conds=3.0, cfg_cond2_negative=2.0, style=style)
        output, _ = custom.sampler_custom_advanced(
            run_in(tmp_path).ctx, noise=custom.random_noise(noise_seed=1), guider=guider, sampler=SAMPLERS["euler"],
            sigmas=schedulers.karras_scheduler(steps=3), latent_image=LATENT,
        )  # fmt: skip
        assert torch.allclose(output["samples"], torch.tensor(mean), atol=1e-4)


def test_noise_is_added_at_the_level_that_a_schedule_goes_down() -> None:
    model, _ = closed(1.0)
    noise = custom.random_noise(noise_seed=3)
    drawn = noise.generate_noise(LATENT)
    several = custom.add_noise(model=model, noise=noise, sigmas=torch.tensor([5.0, 3.0, 1.0]), latent_image=LATENT)
    assert torch.allclose(several["samples"], LATENT["samples"] + 4 * drawn)
    one = custom.add_noise(model=model, noise=noise, sigmas=torch.tensor([5.0]), latent_image=LATENT)
    assert torch.allclose(one["samples"], LATENT["samples"] + 5 * drawn)
    assert custom.add_noise(model=model, noise=noise, sigmas=torch.empty(0), latent_image=LATENT) is LATENT


def test_what_a_mask_keeps_stays(tmp_path: Path) -> None:
    model, _ = closed(2.0)
    mask = torch.zeros(1, 64, 64)
    mask[..., 32:] = 1
    samples = simple(tmp_path, model, latent_image={**LATENT, "noise_mask": mask})
    assert torch.allclose(samples[..., :3], LATENT["samples"][..., :3], atol=1e-4)
    assert not torch.allclose(samples[..., 5:], LATENT["samples"][..., 5:], atol=0.1)


def test_conditionings_change_on_the_way(tmp_path: Path) -> None:
    """Until half-way one text, then another: as two samplers one after the other."""
    model, architecture = closed(1.0)
    first = placing.set_timestep_range(conditioning=text(1.0), start=0.0, end=0.5)
    then = placing.set_timestep_range(conditioning=text(3.0), start=0.5, end=1.0)
    both = joining.combine(conditioning_1=first, conditioning_2=then)
    samples = simple(tmp_path, model, positive=both, cfg=1.0)
    told = [call.text[0] for call in architecture.calls]
    change = told.index(3.0)
    assert 0 < change < 6
    assert told == [1.0] * change + [3.0] * (6 - change)
    start = advanced(
        tmp_path, model, positive=text(1.0), cfg=1.0, end_at_step=change, return_with_leftover_noise="enable"
    )
    end = advanced(
        tmp_path, model, positive=text(3.0), cfg=1.0, add_noise="disable", start_at_step=change,
        latent_image={"samples": start},
    )  # fmt: skip
    assert torch.allclose(samples, end, atol=1e-4)


def test_an_interrupt_ends_a_custom_walk(tmp_path: Path) -> None:
    model, architecture = closed(1.0)
    run = run_in(tmp_path)

    def check() -> None:
        if len(architecture.calls) == 2:
            raise Interrupted

    run.ctx.check = check
    with pytest.raises(Interrupted):
        custom.sampler_custom_advanced(
            run.ctx, noise=custom.disable_noise(), sampler=SAMPLERS["euler"], latent_image=LATENT,
            guider=guiders.basic_guider(model=model, conditioning=text(1.0)),
            sigmas=schedulers.karras_scheduler(steps=9),
        )  # fmt: skip
    assert len(architecture.calls) == 2


def test_values_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    model, _ = closed(float("nan"))
    with pytest.raises(ModelFileError, match="closed gave values that are no numbers"):
        simple(tmp_path, model)


LEVELS = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("step", "high", "low"),
    [(0, [8], [8, 4, 2, 1, 0]), (2, [8, 4, 2], [2, 1, 0]), (9, [8, 4, 2, 1, 0], [])],
)
def test_a_schedule_is_cut_at_a_step(step: int, high: list[float], low: list[float]) -> None:
    assert [part.tolist() for part in sigmas.split_sigmas(sigmas=LEVELS, step=step)] == [high, low]


@pytest.mark.parametrize(
    ("denoise", "high", "low"),
    [(1.0, [8], [8, 4, 2, 1, 0]), (0.5, [8, 4, 2], [2, 1, 0]), (0.0, [8, 4, 2, 1, 0], [0])],
)
def test_a_schedule_is_cut_by_its_part(denoise: float, high: list[float], low: list[float]) -> None:
    assert [part.tolist() for part in sigmas.split_sigmas_by_part(sigmas=LEVELS, denoise=denoise)] == [high, low]


def test_a_schedule_is_turned_around() -> None:
    assert sigmas.flip_sigmas(sigmas=LEVELS).tolist() == pytest.approx([0.0001, 1, 2, 4, 8])
    assert sigmas.flip_sigmas(sigmas=torch.empty(0)).tolist() == []
    assert LEVELS[-1] == 0


def test_the_first_level_can_be_set() -> None:
    assert sigmas.set_first_sigma(sigmas=LEVELS, sigma=9.0).tolist() == [9, 4, 2, 1, 0]
    assert LEVELS[0] == 8
    with pytest.raises(UnfitInput, match="no first sigma to set"):
        sigmas.set_first_sigma(sigmas=torch.empty(0), sigma=9.0)


@pytest.mark.parametrize(
    ("spacing", "start", "end", "made"),
    [
        ("linear", -1.0, 2.0, [8, 6, 4, 3, 2, 1.5, 1, 0]),
        ("linear", 4.0, 4.0, [8, 4, 3, 2, 1, 0]),
        ("cosine", -1.0, 8.0, [8, 8 - 4 * 0.5**0.5, 4, 2, 1, 0]),
        ("sine", -1.0, 8.0, [8, 4 + 4 * 0.5**0.5, 4, 2, 1, 0]),
    ],
)
def test_steps_within_a_range_become_several(spacing: str, start: float, end: float, made: list[float]) -> None:
    changed = sigmas.extend_intermediate_sigmas(
        sigmas=LEVELS, steps=2, start_at_sigma=start, end_at_sigma=end, spacing=spacing
    )
    assert changed.tolist() == pytest.approx(made, rel=1e-5)


def test_a_part_of_the_way_is_a_level() -> None:
    model, _ = closed(1.0)
    known = EXPLODING.levels
    told = [sigmas.sampling_percent_to_sigma(model=model, sampling_percent=part) for part in (0.0, 0.5, 1.0)]
    assert told == [known.at(0.0), known.at(0.5), 0.0]
    actual = [
        sigmas.sampling_percent_to_sigma(model=model, sampling_percent=part, return_actual_sigma=True)
        for part in (0.0, 0.5, 1.0)
    ]
    assert actual == [known.high, known.at(0.5), known.low]


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda model: schedulers.karras_scheduler(rho=0.0), "rho is 0.0; it must be above 0"),
        (lambda model: schedulers.exponential_scheduler(sigma_min=0.0), "sigma_min is 0.0"),
        (lambda model: schedulers.polyexponential_scheduler(sigma_max=0.0), "sigma_max is 0.0"),
        (lambda model: schedulers.laplace_scheduler(sigma_min=20.0), "sigma_min is 20.0, which is above"),
        (lambda model: schedulers.beta_scheduler(model=model, alpha=0.0), "alpha is 0.0"),
    ],
)
def test_schedules_that_are_none_are_refused(make: Any, what: str) -> None:
    with pytest.raises(UnfitInput, match=what):
        make(closed(1.0)[0])


def test_every_scheduler_node_makes_a_schedule_that_can_be_walked(tmp_path: Path) -> None:
    model, _ = closed(2.0)
    made = [
        schedulers.basic_scheduler(model=model, scheduler="karras", steps=5),
        schedulers.karras_scheduler(steps=5),
        schedulers.exponential_scheduler(steps=5),
        schedulers.polyexponential_scheduler(steps=5),
        schedulers.laplace_scheduler(steps=5),
        schedulers.vp_scheduler(steps=5),
        schedulers.beta_scheduler(model=model, steps=5),
        schedulers.turbo_scheduler(model=model, steps=5),
    ]
    for levels in made:
        output, _ = custom.sampler_custom_advanced(
            run_in(tmp_path).ctx, noise=custom.random_noise(noise_seed=1), sampler=SAMPLERS["euler"], sigmas=levels,
            guider=guiders.basic_guider(model=model, conditioning=text(1.0)), latent_image=LATENT,
        )  # fmt: skip
        assert torch.allclose(output["samples"].mean(), torch.tensor(2.0), atol=0.3)


@EITHER
def test_every_sampler_node_walks(prediction: Any, tmp_path: Path) -> None:
    model, _ = closed(2.0, prediction=prediction)
    made = [
        samplers.euler_ancestral(eta=0.5, s_noise=0.9),
        samplers.euler_ancestral_cfg_pp(eta=0.5),
        samplers.lms(order=2),
        samplers.dpmpp_3m_sde(eta=0.5, noise_device="cpu"),
        samplers.dpmpp_2m_sde(solver_type="heun", noise_device="gpu"),
        samplers.dpmpp_sde(r=0.4, noise_device="cpu"),
        samplers.dpmpp_2s_ancestral(eta=0.5),
        samplers.dpm_adaptive(order=2, rtol=0.1, eta=0.1),
        samplers.er_sde(solver_type="ER-SDE", max_stage=2),
        samplers.er_sde(solver_type="Reverse-time SDE", eta=0.5),
        samplers.er_sde(solver_type="ODE"),
        samplers.sa_solver(model=model, use_pece=True, simple_order_2=True),
    ]
    for sampler in made:
        output, _ = custom.sampler_custom_advanced(
            run_in(tmp_path).ctx, noise=custom.random_noise(noise_seed=1), sampler=sampler, latent_image=LATENT,
            guider=guiders.basic_guider(model=model, conditioning=text(1.0)),
            sigmas=schedulers.basic_scheduler(model=model, scheduler="normal", steps=12),
        )  # fmt: skip
        assert torch.allclose(output["samples"].mean(), torch.tensor(2.0), atol=0.3), sampler.name


@pytest.mark.parametrize(
    ("tuned", "plain"),
    [
        (samplers.euler_ancestral(), "euler_ancestral"),
        (samplers.lms(), "lms"),
        (samplers.dpmpp_3m_sde(noise_device="cpu"), "dpmpp_3m_sde"),
        (samplers.dpmpp_2m_sde(solver_type="midpoint", noise_device="cpu"), "dpmpp_2m_sde"),
        (samplers.dpmpp_sde(noise_device="gpu"), "dpmpp_sde_gpu"),
        (samplers.dpmpp_2s_ancestral(), "dpmpp_2s_ancestral"),
        (samplers.dpm_adaptive(), "dpm_adaptive"),
        (samplers.er_sde(solver_type="ER-SDE"), "er_sde"),
        (samplers.euler_ancestral(eta=0.0), "euler"),
    ],
)
def test_sampler_nodes_with_usual_settings_are_the_samplers_by_name(tuned: Any, plain: str, tmp_path: Path) -> None:
    model, _ = closed(2.0)
    guider = guiders.basic_guider(model=model, conditioning=text(1.0))
    ends = [
        custom.sampler_custom_advanced(
            run_in(tmp_path).ctx, noise=custom.random_noise(noise_seed=1), sampler=sampler, guider=guider,
            sigmas=schedulers.karras_scheduler(steps=6), latent_image=LATENT,
        )[0]["samples"]
        for sampler in (tuned, SAMPLERS[plain])
    ]  # fmt: skip
    assert torch.allclose(*ends, atol=1e-5)


@EITHER
def test_sa_solver_takes_the_levels_of_the_model_it_is_given(prediction: Any, tmp_path: Path) -> None:
    model, _ = closed(2.0, prediction=prediction)
    usual = samplers.sa_solver(model=model, use_pece=False, simple_order_2=False)
    guider = guiders.basic_guider(model=model, conditioning=text(1.0))
    other, _ = closed(2.0, prediction=Epsilon(EXPLODING.levels))
    other.add_object_patch("model_sampling", STRAIGHT if prediction is EXPLODING else EXPLODING)
    strange = samplers.sa_solver(model=other, use_pece=False, simple_order_2=False)
    ends = [
        custom.sampler_custom_advanced(
            run_in(tmp_path).ctx, noise=custom.random_noise(noise_seed=1), sampler=sampler, guider=guider,
            sigmas=schedulers.basic_scheduler(model=model, scheduler="normal", steps=8), latent_image=LATENT,
        )[0]["samples"]
        for sampler in (usual, SAMPLERS["sa_solver"], strange)
    ]  # fmt: skip
    assert torch.allclose(ends[0], ends[1], atol=1e-5)
    assert not torch.allclose(ends[0], ends[2], atol=1e-3)


def test_previews_are_made_only_of_spaces_whose_colours_are_known(tmp_path: Path) -> None:
    seen, unseen = run_in(tmp_path, previews=True), run_in(tmp_path, previews=True)
    grey = LatentFormat(channels=4, stride=8, scale=1.0)
    for run, model in ((seen, closed(2.0)[0]), (unseen, closed(2.0, latents=grey)[0])):
        ksampler(run.ctx, model=model, positive=text(1.0), negative=text(0.0), latent_image=LATENT, seed=1, **SETTINGS)
    assert [preview is not None for _, _, preview in seen.steps] == [True] * 6
    assert [preview for _, _, preview in unseen.steps] == [None] * 6
