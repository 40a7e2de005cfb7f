"""Nodes that run a model's denoising."""

from __future__ import annotations

import io
from typing import Annotated

import torch
from PIL import Image as Pictures
from PIL import ImageOps
from torch import Tensor

from limner.diffusion.guidance import Guidance
from limner.diffusion.latents import LatentFormat
from limner.diffusion.samplers import SAMPLERS
from limner.diffusion.sampling import Walk
from limner.diffusion.schedules import SCHEDULES, sigmas
from limner.engine.context import RunContext
from limner.errors import ModelFileError, UnfitInput
from limner.graph.spec import node
from limner.graph.types import Choices, Float, Int, Socket
from limner.models.residency import use
from limner.nodes.sockets import Conditioning, Latent, Model

PREVIEW_BOX = (512, 512)
PREVIEW_QUALITY = 95


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
    ctx.check()
    start = model.latent_format.fit(latent_image["samples"])
    _tell_unusual_size(ctx, model, start)
    sampler = SAMPLERS[sampler_name]
    walk = Walk(
        prediction=model.model_sampling,
        sampler=sampler,
        sigmas=sigmas(
            scheduler, model.model_sampling.levels, steps, denoise=denoise, skip_next_to_last=sampler.skip_next_to_last
        ),
        seed=seed,
        places=latent_image.get("batch_index"),
        mask=latent_image.get("noise_mask"),
    )
    last = len(walk.sigmas) - 1

    def tell(step: int, clean: Tensor) -> None:
        ctx.progress(min(step + 1, last), last, preview(model.latent_format, clean) if ctx.previews else None)

    def predict(x: Tensor, sigma: Tensor, context: Tensor) -> Tensor:
        return model.model.apply_model(x, sigma.reshape(1), c_crossattn=context)

    with torch.inference_mode(), use(model):
        denoiser = Guidance(predict, _placed(positive, model), _placed(negative, model), cfg)
        x = walk.run(denoiser, model.latent_format.into_network(start.float().to(model.load_device)), on_step=tell)
        samples = model.latent_format.out_of_network(x).cpu()
    if not samples.isfinite().all():
        raise ModelFileError(f"{model.name} gave values that are no numbers (NaN); its weights may be damaged")
    return {**latent_image, "samples": samples}


def preview(latents: LatentFormat, clean: Tensor) -> tuple[str, bytes]:
    """A rough JPEG of the first item of a half-done latent, fitted into a box of 512 pixels."""
    picture = Pictures.fromarray(latents.colours(clean[:1].float())[0].cpu().numpy())
    picture = ImageOps.contain(picture, PREVIEW_BOX, Pictures.Resampling.BILINEAR)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=PREVIEW_QUALITY)
    return "image/jpeg", data.getvalue()


def _placed(conditioning: Conditioning, model: Model) -> Conditioning:
    """The conditioning on the model's device. Raises UnfitInput where it was made for another model."""
    if not conditioning:
        raise UnfitInput("the conditioning is empty: encode a prompt, be it an empty one")
    for context, _ in conditioning:
        if context.ndim != 3 or context.shape[-1] != model.model.context_width:
            raise UnfitInput(
                f"the conditioning has the shape {tuple(context.shape)}, {model.name} takes (batch, tokens, "
                f"{model.model.context_width}); encode the prompt with the text encoder of the same checkpoint"
            )
    return [(context.to(model.load_device), extras) for context, extras in conditioning]


def _tell_unusual_size(ctx: RunContext, model: Model, samples: Tensor) -> None:
    height, width = (edge * model.latent_format.stride for edge in samples.shape[-2:])
    native = model.model.native_size
    if native and (width, height) != (native, native):
        ctx.warn(f"{model.name} was made for {native}x{native} pictures; {width}x{height} may come out badly composed")
