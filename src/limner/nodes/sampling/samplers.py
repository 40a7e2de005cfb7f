"""Nodes that give samplers, as they are or with settings of their own."""

from __future__ import annotations

from typing import Annotated

import torch

from limner.diffusion.samplers import SAMPLERS
from limner.graph.node import node
from limner.graph.types import COMBO, Choices, Float, Int, Marker, Socket
from limner.nodes.sampling.sockets import Sampler
from limner.nodes.sockets import Model

MODULE = "comfy_extras.nodes_custom_sampler"
CATEGORY = "sampling/custom_sampling/samplers"

Amount = Annotated[float, Float(0, 100, step=0.01, round=False)]
NoiseDevice = Annotated[str, Choices("gpu", "cpu")]


@node("KSamplerSelect", category=CATEGORY, module=MODULE)
def ksampler_select(*, sampler_name: Annotated[str, Choices(*SAMPLERS)]) -> Sampler:
    """A sampler by name, with its usual settings."""
    return SAMPLERS[sampler_name]


@node("SamplerEulerAncestral", category=CATEGORY, module=MODULE)
def euler_ancestral(*, eta: Amount = 1.0, s_noise: Amount = 1.0) -> Sampler:
    """Euler with fresh noise at each step. eta: how much of it, 0 for none. s_noise: its standard deviation."""
    return SAMPLERS["euler_ancestral"].tuned(eta=eta, noise_scale=s_noise)


@node("SamplerEulerAncestralCFGPP", display_name="SamplerEulerAncestralCFG++", category=CATEGORY, module=MODULE)
def euler_ancestral_cfg_pp(
    *,
    eta: Annotated[float, Float(0, 1, step=0.01, round=False)] = 1.0,
    s_noise: Annotated[float, Float(0, 10, step=0.01, round=False)] = 1.0,
) -> Sampler:
    """Euler with fresh noise, where the noise it keeps is the one expected without guidance. Use a cfg of 1 to 2."""
    return SAMPLERS["euler_ancestral_cfg_pp"].tuned(eta=eta, noise_scale=s_noise)


@node("SamplerLMS", category=CATEGORY, module=MODULE)
def lms(*, order: Annotated[int, Int(1, 100)] = 4) -> Sampler:
    """A sampler that follows the curve through its last slopes. order: how many of them."""
    return SAMPLERS["lms"].tuned(order=order)


@node("SamplerDPMPP_3M_SDE", category=CATEGORY, module=MODULE)
def dpmpp_3m_sde(*, eta: Amount = 1.0, s_noise: Amount = 1.0, noise_device: NoiseDevice) -> Sampler:
    """DPM-Solver++ (3M) with noise. noise_device: where it is drawn, as that gives other pictures."""
    return SAMPLERS[f"dpmpp_3m_sde{_on(noise_device)}"].tuned(eta=eta, noise_scale=s_noise)


@node("SamplerDPMPP_2M_SDE", category=CATEGORY, module=MODULE)
def dpmpp_2m_sde(
    *,
    solver_type: Annotated[str, Choices("midpoint", "heun")],
    eta: Amount = 1.0,
    s_noise: Amount = 1.0,
    noise_device: NoiseDevice,
) -> Sampler:
    """DPM-Solver++ (2M) with noise. solver_type: where in a step it looks at how the picture changes."""
    sampler = SAMPLERS[f"dpmpp_2m_sde{_on(noise_device)}"]
    return sampler.tuned(eta=eta, noise_scale=s_noise, heun=solver_type == "heun")


@node("SamplerDPMPP_SDE", category=CATEGORY, module=MODULE)
def dpmpp_sde(*, eta: Amount = 1.0, s_noise: Amount = 1.0, r: Amount = 0.5, noise_device: NoiseDevice) -> Sampler:
    """DPM-Solver++ with noise, which looks ahead within each step. r: how far, as a part of the step."""
    return SAMPLERS[f"dpmpp_sde{_on(noise_device)}"].tuned(eta=eta, noise_scale=s_noise, r=r)


@node("SamplerDPMPP_2S_Ancestral", category=CATEGORY, module=MODULE)
def dpmpp_2s_ancestral(*, eta: Amount = 1.0, s_noise: Amount = 1.0) -> Sampler:
    """DPM-Solver++ (2S) with fresh noise at each step."""
    return SAMPLERS["dpmpp_2s_ancestral"].tuned(eta=eta, noise_scale=s_noise)


@node("SamplerDPMAdaptative", category=CATEGORY, module=MODULE)
def dpm_adaptive(
    *,
    order: Annotated[int, Int(2, 3)] = 3,
    rtol: Amount = 0.05,
    atol: Amount = 0.0078,
    h_init: Amount = 0.05,
    pcoeff: Amount = 0.0,
    icoeff: Amount = 1.0,
    dcoeff: Amount = 0.0,
    accept_safety: Amount = 0.81,
    eta: Amount = 0.0,
    s_noise: Amount = 1.0,
) -> Sampler:
    """DPM-Solver that chooses the length of its steps itself: only the ends of the schedule count.

    rtol, atol: how much a lower and a higher order may differ. h_init: the first step, in log sigma. pcoeff, icoeff,
    dcoeff: how the length follows that difference. accept_safety: how near the limit a step may come.
    """
    return SAMPLERS["dpm_adaptive"].tuned(
        order=order, rtol=rtol, atol=atol, h_init=h_init, pcoeff=pcoeff, icoeff=icoeff, dcoeff=dcoeff,
        accept_safety=accept_safety, eta=eta, noise_scale=s_noise,
    )  # fmt: skip


@node("SamplerER_SDE", category=CATEGORY, module=MODULE)
def er_sde(
    *,
    solver_type: Annotated[str, Marker(COMBO, {"options": ["ER-SDE", "Reverse-time SDE", "ODE"]})],
    max_stage: Annotated[int, Int(1, 3)] = 3,
    eta: Amount = 1.0,
    s_noise: Amount = 1.0,
) -> Sampler:
    """Solves the reverse SDE to the order `max_stage`. eta: the noise of Reverse-time SDE; ODE has none."""
    sampler = SAMPLERS["er_sde"].tuned(stages=max_stage)
    if solver_type == "ER-SDE":
        return sampler.tuned(noise_scale=s_noise)
    rate = 0.0 if solver_type == "ODE" else eta
    return sampler.tuned(scaler=lambda sigma: sigma ** (rate + 1), noise_scale=s_noise if rate > 0 else 0.0)


@node("SamplerSASolver", category=CATEGORY, module=MODULE)
def sa_solver(
    *,
    model: Annotated[Model, Socket("MODEL", {})],
    eta: Annotated[float, Float(0, 10, step=0.01, round=False)] = 1.0,
    sde_start_percent: Annotated[float, Float(0, 1, step=0.001)] = 0.2,
    sde_end_percent: Annotated[float, Float(0, 1, step=0.001)] = 0.8,
    s_noise: Amount = 1.0,
    predictor_order: Annotated[int, Int(1, 6)] = 3,
    corrector_order: Annotated[int, Int(0, 6)] = 4,
    use_pece: Annotated[bool, Marker("BOOLEAN", {})],
    simple_order_2: Annotated[bool, Marker("BOOLEAN", {})],
) -> Sampler:
    """SA-Solver: predicts each step from the last ones and corrects it afterwards.

    Noise is added between two parts of the way down the model's levels. use_pece: the corrected step is looked at anew,
    for twice the calls. simple_order_2: steps by two earlier ones are weighed as at their middle.
    """
    sampling = model.model_sampling

    def at(done: float) -> float:
        return float(sampling.path.ratio(torch.tensor(sampling.levels.at(done))))

    return SAMPLERS["sa_solver"].tuned(
        at=at, eta=eta, noise_from=sde_start_percent, noise_to=sde_end_percent, noise_scale=s_noise,
        predictor=predictor_order, corrector=corrector_order, again=use_pece, simple=simple_order_2,
    )  # fmt: skip


def _on(device: str) -> str:
    return "_gpu" if device == "gpu" else ""
