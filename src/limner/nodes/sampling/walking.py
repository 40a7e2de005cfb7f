"""One walk, as every sampling node makes it: noise and latent fitted to the model, steps told, the result checked."""

from __future__ import annotations

from torch import Tensor

from limner.diffusion.latents import Latent
from limner.diffusion.samplers import Sampler
from limner.diffusion.schedules import SCHEDULES, sigmas
from limner.engine.context import RunContext
from limner.errors import UnfitInput
from limner.models.model import Model
from limner.models.sampling import CFGGuider, PackSampler
from limner.models.sampling.noises import Noise
from limner.nodes.sampling.previews import previewer


def walked(
    ctx: RunContext,
    guider: CFGGuider,
    *,
    noise: Noise,
    sampler: Sampler | PackSampler,
    levels: Tensor,
    latent: Latent,
) -> tuple[Latent, Latent]:
    """The latent after the walk, and the clean one that was expected at its last step.

    Without steps to walk both are the latent that came in. Raises UnfitInput, ModelFileError, Interrupted.
    """
    ctx.check()
    model = guider.model_patcher
    start: Latent = {**latent, "samples": model.latent_format.fit(latent["samples"])}
    tell_unusual_size(ctx, model, start["samples"])
    expected: list[Tensor] = []
    preview = previewer(ctx, model.latent_format)

    def tell(step: int, clean: Tensor, _x: Tensor, steps: int) -> None:
        expected[:] = [clean]
        ctx.progress(min(step + 1, steps), steps, preview(clean) if ctx.previews else None)

    samples = guider.sample(
        noise.generate_noise(start),
        start["samples"],
        sampler,
        levels,
        denoise_mask=latent.get("noise_mask"),
        callback=tell,
        seed=noise.seed,
    )
    end: Latent = {**latent, "samples": samples}
    if not expected:
        return end, end
    return end, {**latent, "samples": model.latent_format.out_of_network(expected[0].float()).cpu().clone()}


def schedule(model: Model, name: str, steps: int, *, denoise: float = 1.0, sampler: Sampler | None = None) -> Tensor:
    """The levels of a walk with this model. Raises UnfitInput for what is no number of steps, or no part of the way."""
    if steps < 1:
        raise UnfitInput(f"steps is {steps}; at least one step is needed")
    if not 0 <= denoise <= 1:
        raise UnfitInput(f"denoise is {denoise}; it is a part of the whole way, from 0 to 1")
    if name not in SCHEDULES:
        raise UnfitInput(f"there is no scheduler {name!r}; there are {', '.join(SCHEDULES)}")
    skip = sampler is not None and sampler.skip_next_to_last
    return sigmas(name, model.model_sampling.levels, steps, denoise=denoise, skip_next_to_last=skip)


def tell_unusual_size(ctx: RunContext, model: Model, samples: Tensor) -> None:
    """Warns where a picture has not the size that the model was made for."""
    height, width = (edge * model.latent_format.stride for edge in samples.shape[-2:])
    native = model.model.native_size
    if native and (width, height) != (native, native):
        ctx.warn(f"{model.name} was made for {native}x{native} pictures; {width}x{height} may come out badly composed")
