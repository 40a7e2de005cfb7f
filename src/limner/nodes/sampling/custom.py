"""Sampling in parts: noise, guider, sampler and schedule come from nodes of their own."""

from __future__ import annotations

from typing import Annotated

from limner.diffusion.latents import Latent as LatentValue
from limner.engine.context import RunContext
from limner.graph.node import node
from limner.graph.types import Flag, Float, Int
from limner.models.sampling import CFGGuider, NoNoise, RandomNoise
from limner.models.sampling.asking import check_sigmas
from limner.nodes.sampling.sockets import Guider, Noise, Sampler
from limner.nodes.sampling.walking import walked
from limner.nodes.sockets import Conditioning, Latent, Model, Sigmas

MODULE = "comfy_extras.nodes_custom_sampler"
CATEGORY = "sampling/custom_sampling"
OUTPUTS = {"output": "LATENT", "denoised_output": "LATENT"}

Seed = Annotated[int, Int(0, 2**64 - 1, control_after_generate=True)]


@node("SamplerCustom", category=CATEGORY, module=MODULE, outputs=OUTPUTS)
def sampler_custom(
    ctx: RunContext,
    *,
    model: Model,
    add_noise: Annotated[bool, Flag()] = True,
    noise_seed: Seed = 0,
    cfg: Annotated[float, Float(0, 100, step=0.1, round=0.01)] = 8.0,
    positive: Conditioning,
    negative: Conditioning,
    sampler: Sampler,
    sigmas: Sigmas,
    latent_image: Latent,
) -> tuple[LatentValue, LatentValue]:
    """Walks a latent down a schedule. `denoised_output` is the picture expected at the last step, without noise.

    A schedule that rises leads from a picture to noise; an empty one leaves the latent as it is.
    """
    guider = CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    noise = RandomNoise(noise_seed) if add_noise else NoNoise(noise_seed)
    return walked(ctx, guider, noise=noise, sampler=sampler, levels=sigmas, latent=latent_image)


@node("SamplerCustomAdvanced", category=CATEGORY, module=MODULE, outputs=OUTPUTS)
def sampler_custom_advanced(
    ctx: RunContext, *, noise: Noise, guider: Guider, sampler: Sampler, sigmas: Sigmas, latent_image: Latent
) -> tuple[LatentValue, LatentValue]:
    """Walks a latent down a schedule with a guider. `denoised_output` is the picture expected at the last step.

    A schedule that rises leads from a picture to noise; an empty one leaves the latent as it is.
    """
    return walked(ctx, guider, noise=noise, sampler=sampler, levels=sigmas, latent=latent_image)


@node("RandomNoise", category=f"{CATEGORY}/noise", module=MODULE)
def random_noise(*, noise_seed: Seed = 0) -> Noise:
    """Noise drawn from a seed."""
    return RandomNoise(noise_seed)


@node("DisableNoise", category=f"{CATEGORY}/noise", module=MODULE)
def disable_noise() -> Noise:
    """No noise, for a latent that still has some."""
    return NoNoise()


@node("AddNoise", category="_for_testing/custom_sampling/noise", module=MODULE)
def add_noise(*, model: Model, noise: Noise, sigmas: Sigmas, latent_image: Latent) -> Latent:
    """Covers a latent with noise of the level that a schedule goes down: from its first sigma to its last."""
    check_sigmas(sigmas)
    if len(sigmas) == 0:
        return latent_image
    samples = model.latent_format.fit(latent_image["samples"])
    drawn = noise.generate_noise({**latent_image, "samples": samples})
    level = sigmas[0] if len(sigmas) == 1 else (sigmas[0] - sigmas[-1]).abs()
    clean = model.latent_format.into_network(samples.float()) if samples.count_nonzero() > 0 else samples.float()
    noised = model.model_sampling.path.noised(clean, drawn.float(), level)
    return {**latent_image, "samples": model.latent_format.out_of_network(noised)}
