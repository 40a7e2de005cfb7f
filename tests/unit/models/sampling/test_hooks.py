"""What node packs hook into guidance, by the names and arguments they know."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.diffusion.samplers import SAMPLERS
from limner.diffusion.schedules import sigmas
from limner.models.model import Model
from limner.models.sampling import CFGGuider, RandomNoise, answers
from tests.unit.models.sampling.closed import EXPLODING, Closed, closed, text

LATENT = torch.linspace(-2, 2, 4 * 8 * 8).reshape(1, 4, 8, 8)
LEVELS = sigmas("normal", EXPLODING.levels, 3)


def sampled(model: Model, cfg: float = 2.0, name: str = "euler") -> Tensor:
    guider = CFGGuider(model)
    guider.set_conds(text(1.0), text(-0.5))
    guider.set_cfg(cfg)
    return guider.sample(RandomNoise(1).generate_noise({"samples": LATENT}), LATENT, SAMPLERS[name], LEVELS, seed=1)


def hooked(hook: Callable[[Model], None], **facts: Any) -> tuple[Tensor, Closed]:
    model, architecture = closed(2.0)
    changed = model.clone()
    hook(changed)
    return sampled(changed, **facts), architecture


def plain(**facts: Any) -> Tensor:
    return sampled(closed(2.0)[0], **facts)


def test_a_cfg_function_joins_what_x_loses_under_either() -> None:
    seen: list[set[str]] = []

    def usual(told: dict[str, Any]) -> Tensor:
        seen.append(set(told))
        assert torch.equal(told["cond"], told["input"] - told["cond_denoised"])
        assert torch.equal(told["uncond"], told["input"] - told["uncond_denoised"])
        assert told["sigma"].shape == told["timestep"].shape == (1,)
        assert told["cond_scale"] == 2.0
        assert told["model"].name == "closed"
        joined: Tensor = told["uncond"] + (told["cond"] - told["uncond"]) * told["cond_scale"]
        return joined

    samples, _ = hooked(lambda model: model.set_model_sampler_cfg_function(usual))
    assert torch.allclose(samples, plain(), atol=1e-5)
    assert seen[0] == {
        "cond", "uncond", "cond_scale", "timestep", "input", "sigma", "cond_denoised", "uncond_denoised", "model",
        "model_options", "input_cond", "input_uncond",
    }  # fmt: skip


@pytest.mark.parametrize(("optimized", "batch"), [(True, 1), (False, 2)])
def test_a_hook_may_ask_for_the_negative_at_scale_one(optimized: bool, batch: int) -> None:
    def hook(model: Model) -> None:
        model.set_model_sampler_cfg_function(lambda told: told["cond"], disable_cfg1_optimization=not optimized)

    samples, architecture = hooked(hook, cfg=1.0)
    assert [len(call.text) for call in architecture.calls] == [batch] * 3
    assert torch.allclose(samples, plain(cfg=1.0), atol=1e-5)


def test_hooks_after_the_joining_run_in_turn() -> None:
    order: list[str] = []

    def add(name: str, change: float) -> Callable[[dict[str, Any]], Tensor]:
        def after(told: dict[str, Any]) -> Tensor:
            order.append(name)
            assert {"denoised", "cond", "uncond", "cond_scale", "sigma", "input"} <= set(told)
            assert told["cond"][0]["cross_attn"].mean() == 1
            assert told["uncond"][0]["cross_attn"].mean() == -0.5
            changed: Tensor = told["denoised"] + change
            return changed

        return after

    def hook(model: Model) -> None:
        model.set_model_sampler_post_cfg_function(add("first", 3.0))
        model.set_model_sampler_post_cfg_function(add("second", -3.0))

    samples, _ = hooked(hook)
    assert torch.allclose(samples, plain(), atol=1e-5)
    assert order == ["first", "second"] * 3


def test_hooks_before_the_joining_change_the_answers() -> None:
    def swap(told: dict[str, Any]) -> list[Tensor]:
        wanted, unwanted = told["conds_out"]
        assert [side[0]["cross_attn"].mean() for side in told["conds"]] == [1, -0.5]
        return [unwanted, wanted]

    samples, _ = hooked(lambda model: model.set_model_sampler_pre_cfg_function(swap))
    guider = CFGGuider(closed(2.0)[0])
    guider.set_conds(text(-0.5), text(1.0))
    guider.set_cfg(2.0)
    noise = RandomNoise(1).generate_noise({"samples": LATENT})
    assert torch.allclose(samples, guider.sample(noise, LATENT, SAMPLERS["euler"], LEVELS, seed=1), atol=1e-5)


def test_a_pack_may_ask_both_sides_itself() -> None:
    def ask(told: dict[str, Any]) -> list[Tensor]:
        return [
            answers(told["model"], [side], told["input"], told["sigma"], told["model_options"])[0]
            for side in told["conds"]
        ]

    def hook(model: Model) -> None:
        model.model_options["sampler_calc_cond_batch_function"] = ask

    samples, architecture = hooked(hook)
    assert torch.allclose(samples, plain(), atol=1e-5)
    assert [call.text for call in architecture.calls[:2]] == [[1.0], [-0.5]]


def test_a_wrapper_stands_around_the_network() -> None:
    asked: list[list[int]] = []

    def wrap(apply_model: Callable[..., Tensor], told: dict[str, Any]) -> Tensor:
        asked.append(told["cond_or_uncond"])
        assert len(told["input"]) == len(told["timestep"]) == 2
        assert {"c_crossattn", "transformer_options"} <= set(told["c"])
        return apply_model(told["input"], told["timestep"], **told["c"]) + 1

    samples, _ = hooked(lambda model: model.set_model_unet_function_wrapper(wrap))
    assert asked == [[1, 0]] * 3
    assert not torch.allclose(samples, plain(), atol=0.1)
    whole = plain()
    undone, _ = hooked(lambda model: model.set_model_unet_function_wrapper(
        lambda apply_model, told: apply_model(told["input"], told["timestep"], **told["c"])))  # fmt: skip
    assert torch.equal(undone, whole)


def test_the_network_is_told_of_sides_levels_and_the_whole_schedule() -> None:
    _, architecture = hooked(lambda model: model.model_options["transformer_options"].update(mine=7))
    options = architecture.calls[1].options
    assert options["cond_or_uncond"] == [1, 0]
    assert options["sigmas"].tolist() == pytest.approx([float(LEVELS[1])])
    assert torch.equal(options["sample_sigmas"], LEVELS)
    assert (len(options["uuids"]), options["mine"]) == (2, 7)


def test_what_a_walk_writes_into_its_options_stays_there() -> None:
    model, _ = closed(2.0)
    sampled(model)
    assert model.model_options == {"transformer_options": {}}


def test_cfg_plus_plus_sees_the_negative_under_a_function_of_a_pack() -> None:
    def usual(told: dict[str, Any]) -> Tensor:
        joined: Tensor = told["uncond"] + (told["cond"] - told["uncond"]) * told["cond_scale"]
        return joined

    samples, _ = hooked(lambda model: model.set_model_sampler_cfg_function(usual), name="euler_cfg_pp")
    assert torch.allclose(samples, plain(name="euler_cfg_pp"), atol=1e-4)
    assert not torch.allclose(samples, plain(), atol=0.1)
