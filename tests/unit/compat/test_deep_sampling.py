"""Packs that sample by hand, with samplers, guiders and predictions of their own, against the core nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from limner.errors import UnfitInput
from tests.unit.compat.conftest import Packs
from tests.unit.compat.deep import WALK, Deep, deep_pack


@pytest.fixture(scope="module")
def deep(loaded: Packs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deep]:
    with deep_pack(loaded, tmp_path_factory.mktemp("deep")) as made:
        yield made


def walk_of(deep: Deep, sampler: Any, model: Any, cfg: float = 3.0) -> Any:
    _, clip, _ = deep.parts()
    positive, negative = deep.conditionings(clip)
    sigmas = deep.core("BasicScheduler", model=model, scheduler="normal", steps=3, denoise=1.0)
    return deep.pack("SampleCustomByHand", model, 7, sampler, sigmas, cfg, positive, negative, deep.empty())[0][
        "samples"
    ]


@pytest.mark.parametrize(
    "name", ["euler", "dpmpp_2m", "euler_ancestral", "dpmpp_2m_sde", "ddim", "euler_cfg_pp", "uni_pc"]
)
def test_a_walk_by_comfy_sample_is_that_of_the_core_node(deep: Deep, name: str) -> None:
    model, clip, _ = deep.parts()
    positive, negative = deep.conditionings(clip)
    walk = {**WALK, "sampler_name": name}
    mine = deep.pack("SampleByHand", model, **walk, positive=positive, negative=negative, latent=deep.empty())[0]
    assert torch.allclose(mine["samples"], deep.walked(model, sampler_name=name), atol=1e-5)


def test_a_walk_with_a_mask_and_less_noise_is_that_of_the_core_node(deep: Deep) -> None:
    model, clip, _ = deep.parts()
    positive, negative = deep.conditionings(clip)
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    latent = {"samples": start, "noise_mask": torch.ones(1, 64, 64).tril(), "batch_index": [3, 1]}
    for name in ("euler", "ddim"):
        walk = {**WALK, "sampler_name": name}
        mine = deep.pack(
            "SampleByHand", model, **walk, positive=positive, negative=negative, latent=latent, denoise=0.5
        )
        core = deep.walked(model, sampler_name=name, latent_image=latent, denoise=0.5)
        assert torch.allclose(mine[0]["samples"], core, atol=1e-5)


def test_common_ksampler_is_the_core_node_and_follows_what_packs_replace(
    deep: Deep, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.sample
    import comfy.samplers

    model, clip, _ = deep.parts()
    positive, negative = deep.conditionings(clip)
    values = (model, *WALK.values(), positive, negative, deep.empty())
    core = deep.walked(model)
    assert torch.allclose(deep.nodes.common_ksampler(*values)[0]["samples"], core, atol=1e-5)
    calls: list[str] = []
    own_noise, own_sample = comfy.sample.prepare_noise, comfy.samplers.sample
    monkeypatch.setattr(comfy.sample, "prepare_noise", lambda *a, **k: (calls.append("noise"), own_noise(*a, **k))[1])
    monkeypatch.setattr(comfy.samplers, "sample", lambda *a, **k: (calls.append("sample"), own_sample(*a, **k))[1])
    sigmas = comfy.samplers.calculate_sigmas
    monkeypatch.setattr(
        comfy.samplers, "calculate_sigmas", lambda *a, **k: (calls.append("sigmas"), sigmas(*a, **k))[1]
    )
    assert torch.allclose(deep.nodes.common_ksampler(*values)[0]["samples"], core, atol=1e-5)
    assert calls == ["noise", "sigmas", "sample"]


def test_a_function_of_the_pack_is_a_sampler(deep: Deep) -> None:
    model, _, _ = deep.parts()
    [own] = deep.pack("OwnSampler", "euler")
    core = deep.core("KSamplerSelect", sampler_name="euler")
    assert torch.allclose(walk_of(deep, own, model), walk_of(deep, core, model), atol=1e-5)
    [half] = deep.pack("OwnSampler", "euler", strength=0.5)
    assert not torch.allclose(walk_of(deep, half, model), walk_of(deep, core, model), atol=1e-3)
    [ancestral] = deep.pack("OwnSampler", "ancestral")
    core = deep.core("KSamplerSelect", sampler_name="euler_ancestral")
    assert torch.allclose(walk_of(deep, ancestral, model), walk_of(deep, core, model), atol=1e-4)


def test_a_sampler_of_a_core_node_answers_by_the_names_that_packs_know(deep: Deep) -> None:
    import comfy.samplers

    model, _, _ = deep.parts()
    for core in (
        deep.core("KSamplerSelect", sampler_name="ddim"),
        deep.core("SamplerDPMPP_2M_SDE", solver_type="heun", eta=0.5, s_noise=1.0, noise_device="cpu"),
    ):
        assert isinstance(core, comfy.samplers.KSAMPLER)
        own = comfy.samplers.KSAMPLER(core.sampler_function, core.extra_options, core.inpaint_options)
        assert torch.allclose(walk_of(deep, own, model), walk_of(deep, core, model), atol=1e-5)
    assert comfy.samplers.sampler_object("ddim").inpaint_options == {"random": True}
    with pytest.raises(UnfitInput, match="there is no sampler 'of_tomorrow'"):
        comfy.samplers.sampler_object("of_tomorrow")


def test_samplers_and_schedules_of_a_pack_are_found_by_name(deep: Deep, monkeypatch: pytest.MonkeyPatch) -> None:
    import comfy.samplers

    model, clip, _ = deep.parts()
    positive, negative = deep.conditionings(clip)
    function = deep.pack("OwnSampler", "euler")[0].sampler_function
    monkeypatch.setattr(comfy.samplers.k_diffusion_sampling, "sample_own", function, raising=False)
    monkeypatch.setattr(comfy.samplers.KSampler, "SAMPLERS", [*comfy.samplers.SAMPLER_NAMES, "own"])
    monkeypatch.setattr(comfy.samplers.KSampler, "SCHEDULERS", [*comfy.samplers.SCHEDULER_NAMES, "own"])
    levels = comfy.samplers.normal_scheduler
    monkeypatch.setitem(comfy.samplers.SCHEDULER_HANDLERS, "own", comfy.samplers.SchedulerHandler(levels))
    values = {**WALK, "sampler_name": "own", "scheduler": "own"}
    made = deep.nodes.common_ksampler(model, *values.values(), positive, negative, deep.empty())[0]["samples"]
    assert torch.allclose(made, deep.walked(model), atol=1e-5)


def test_a_sampler_of_the_pack_runs_in_the_core_nodes(deep: Deep) -> None:
    model, clip, _ = deep.parts()
    positive, negative = deep.conditionings(clip)
    sigmas = deep.core("BasicScheduler", model=model, scheduler="normal", steps=3, denoise=1.0)
    noise = deep.core("RandomNoise", noise_seed=7)
    guider = deep.core("CFGGuider", model=model, positive=positive, negative=negative, cfg=3.0)
    [own] = deep.pack("OwnSampler", "euler")
    made = deep.core(
        "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=own, sigmas=sigmas, latent_image=deep.empty()
    )
    assert torch.allclose(made["samples"], deep.walked(model), atol=1e-5)


def test_a_guider_of_the_pack_joins_answers_its_own_way(deep: Deep) -> None:
    model, clip, _ = deep.parts()
    positive, negative = deep.conditionings(clip)
    [guider] = deep.pack("OwnGuider", model, positive, negative, 2.0, 4.0)
    sigmas = deep.core("BasicScheduler", model=model, scheduler="normal", steps=3, denoise=1.0)
    made = deep.core(
        "SamplerCustomAdvanced",
        noise=deep.core("RandomNoise", noise_seed=7),
        guider=guider,
        sampler=deep.core("KSamplerSelect", sampler_name="euler"),
        sigmas=sigmas,
        latent_image=deep.empty(),
    )
    assert torch.allclose(made["samples"], deep.walked(model), atol=1e-4)  # the mean of 2 and 4 is guidance by 3


@pytest.mark.parametrize(
    ("kind", "core"), [("eps", None), ("v", "ModelSamplingDiscrete"), ("flow", "ModelSamplingSD3")]
)
def test_a_model_sampling_of_the_pack_is_that_of_the_core_node(deep: Deep, kind: str, core: str | None) -> None:
    model, _, _ = deep.parts()
    [own] = deep.pack("OwnSampling", model, kind)
    if kind == "v":
        theirs = deep.core("ModelSamplingDiscrete", model=model, sampling="v_prediction", zsnr=False)
    elif kind == "flow":
        theirs = deep.core("ModelSamplingSD3", model=model, shift=3.0)
    else:
        theirs = model
    for name in ("euler", "euler_ancestral", "dpmpp_2m"):
        assert torch.allclose(deep.walked(own, sampler_name=name), deep.walked(theirs, sampler_name=name), atol=1e-4), (
            name
        )
    if core is not None:
        assert not torch.allclose(deep.walked(own), deep.walked(model), atol=1e-3)


def test_what_is_no_model_sampling_is_refused_by_its_missing_member(deep: Deep) -> None:
    model, _, _ = deep.parts()
    odd = model.clone()
    odd.add_object_patch("model_sampling", object())
    with pytest.raises(UnfitInput, match="model_sampling of the kind object has no member sigmas"):
        deep.walked(odd)


def test_own_predictions_answer_by_the_names_that_packs_know(deep: Deep) -> None:
    model, _, _ = deep.parts()
    sampling = model.get_model_object("model_sampling")
    x, sigma = torch.full((2, 4, 3, 3), 2.0), torch.tensor([1.0, 3.0])
    assert float(sampling.sigma_max) == pytest.approx(14.6146, abs=1e-3)
    assert sampling.percent_to_sigma(1.0) == 0.0
    assert torch.allclose(sampling.calculate_input(sigma, x)[:, 0, 0, 0], 2 / torch.tensor([2.0, 10.0]).sqrt())
    assert torch.allclose(sampling.calculate_denoised(sigma, x, x)[:, 0, 0, 0], torch.tensor([0.0, -4.0]))
    assert torch.equal(sampling.noise_scaling(sigma, x, x)[:, 0, 0, 0], torch.tensor([4.0, 8.0]))
    assert sampling.timestep(sampling.sigma(torch.tensor([500.0]))) == 500


def test_functions_of_k_diffusion_refuse_settings_that_they_do_not_have() -> None:
    from comfy.k_diffusion import sampling

    def ask(x: torch.Tensor, sigma: torch.Tensor, **_: Any) -> torch.Tensor:
        return x / (1 + sigma.reshape(-1, 1) ** 2)

    x, sigmas = torch.ones(2, 3) * 10, torch.tensor([10.0, 1.0, 0.0])
    told: list[dict[str, Any]] = []
    end = sampling.sample_euler(ask, x, sigmas, callback=told.append, s_churn=0.0, s_noise=1.0)
    assert [(each["i"], float(each["sigma"])) for each in told] == [(0, 10.0), (1, 1.0)]
    assert torch.equal(told[0]["x"], x)
    assert end.shape == x.shape
    with pytest.raises(UnfitInput, match="the sampler euler has no setting 's_churn'"):
        sampling.sample_euler(ask, x, sigmas, s_churn=0.5)
    heun = sampling.sample_dpmpp_2m_sde(ask, x, sigmas, extra_args={"seed": 1}, eta=0.0, solver_type="heun")
    assert torch.equal(heun, sampling.sample_dpmpp_2m_sde(ask, x, sigmas, {"seed": 5}, eta=0.0, solver_type="heun"))


def test_brownian_noise_is_the_samplers_own() -> None:
    from comfy.k_diffusion import sampling

    def ask(x: torch.Tensor, sigma: torch.Tensor, **_: Any) -> torch.Tensor:
        return x / (1 + sigma.reshape(-1, 1) ** 2)

    x, sigmas = torch.ones(2, 3) * 10, torch.tensor([10.0, 3.0, 1.0, 0.0])
    noise = sampling.BrownianTreeNoiseSampler(x, sigmas[2], sigmas[0], seed=4, cpu=True)
    told = sampling.sample_dpmpp_2m_sde(ask, x, sigmas, extra_args={"seed": 4}, noise_sampler=noise)
    assert torch.equal(told, sampling.sample_dpmpp_2m_sde(ask, x, sigmas, extra_args={"seed": 4}))
