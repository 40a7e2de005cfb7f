"""KSampler: a walk from noise to a latent in one node."""

from __future__ import annotations

from typing import Annotated, Literal

from limner.diffusion.samplers import SAMPLERS
from limner.diffusion.schedules import SCHEDULES, section
from limner.engine.context import RunContext
from limner.graph.node import node
from limner.graph.types import Choices, Float, Int, Socket
from limner.models.sampling import CFGGuider, NoNoise, RandomNoise
from limner.nodes.sampling.walking import schedule, walked
from limner.nodes.sockets import Conditioning, Latent, Model


@node("KSampler", category="sampling")
def ksampler(
    ctx: RunContext,
    *,
    model: Annotated[Model, Socket("MODEL", {})],
    seed: Annotated[int, Int(0, 2**64 - 1, control_after_generate=True)] = 0,
    steps: Annotated[int, Int(1, 10000)] = 20,
    cfg: Annotated[float, Float(0, 100, step=0.1, round=0.01)] = 8.0,
    sampler_name: Annotated[str, Choices(*SAMPLERS, options={})],
    scheduler: Annotated[str, Choices(*SCHEDULES, options={})],
    positive: Annotated[Conditioning, Socket("CONDITIONING", {})],
    negative: Annotated[Conditioning, Socket("CONDITIONING", {})],
    latent_image: Annotated[Latent, Socket("LATENT", {})],
    denoise: Annotated[float, Float(0, 1, step=0.01)] = 1.0,
) -> Latent:
    """Denoises a latent with a model, towards the positive and away from the negative conditioning.

    denoise: below 1 keeps part of the latent that comes in. The same seed gives the same picture.
    """
    sampler = SAMPLERS[sampler_name]
    guider = CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    levels = schedule(model, scheduler, steps, denoise=denoise, sampler=sampler)
    end, _ = walked(ctx, guider, noise=RandomNoise(seed), sampler=sampler, levels=levels, latent=latent_image)
    return end


@node("KSamplerAdvanced", display_name="KSampler (Advanced)", category="sampling")
def ksampler_advanced(
    ctx: RunContext,
    *,
    model: Model,
    add_noise: Annotated[Literal["enable", "disable"], Choices("enable", "disable")],
    noise_seed: Annotated[int, Int(0, 2**64 - 1, control_after_generate=True)] = 0,
    steps: Annotated[int, Int(1, 10000)] = 20,
    cfg: Annotated[float, Float(0, 100, step=0.1, round=0.01)] = 8.0,
    sampler_name: Annotated[str, Choices(*SAMPLERS)],
    scheduler: Annotated[str, Choices(*SCHEDULES)],
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    start_at_step: Annotated[int, Int(0, 10000)] = 0,
    end_at_step: Annotated[int, Int(0, 10000)] = 10000,
    return_with_leftover_noise: Annotated[Literal["disable", "enable"], Choices("disable", "enable")],
) -> Latent:
    """Walks a part of a schedule: from step `start_at_step` up to, and without, step `end_at_step`.

    A walk can go on where another left off: the first returns its leftover noise, the second adds none. A start at or
    beyond the end leaves the latent as it is.
    """
    sampler = SAMPLERS[sampler_name]
    guider = CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    whole = schedule(model, scheduler, steps, sampler=sampler)
    levels = section(whole, start_at_step, end_at_step, leftover=return_with_leftover_noise == "enable")
    noise = RandomNoise(noise_seed) if add_noise == "enable" else NoNoise(noise_seed)
    end, _ = walked(ctx, guider, noise=noise, sampler=sampler, levels=levels, latent=latent_image)
    return end
