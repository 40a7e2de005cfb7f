"""Pictures of half-done work: by a small VAE where its file is there, else by a linear guess at colours."""

from __future__ import annotations

import io
from collections.abc import Callable

import torch
from PIL import Image as Pictures
from PIL import ImageOps
from torch import Tensor

from limner.diffusion.latents import LatentFormat
from limner.engine.context import RunContext
from limner.errors import ModelFileError
from limner.models.library import ModelLibrary
from limner.models.taesd import TinyDecoder, tiny_decoder

PREVIEW_BOX = (512, 512)
PREVIEW_QUALITY = 95

Preview = Callable[[Tensor], tuple[str, bytes] | None]
"""(B, C, [frames,] h, w) in the network's units to (image type, bytes) of its first item."""


def previewer(ctx: RunContext, latents: LatentFormat) -> Preview:
    """Makes previews of a latent space. The small VAE is looked for when the first one is wanted."""
    found: list[TinyDecoder | None] = []

    def preview(clean: Tensor) -> tuple[str, bytes] | None:
        if clean.ndim < 4:
            return None
        if not found:
            found.append(_decoder(ctx, latents))
        first = clean[:1].float()
        if found[0] is not None and first.ndim == 4:
            return encoded((found[0](first)[0] * 255).to(torch.uint8))
        return encoded(latents.colours(first)[0].cpu()) if latents.rgb else None

    return preview


def encoded(picture: Tensor) -> tuple[str, bytes]:
    """A picture (H, W, 3) uint8 as a JPEG, fitted into a box of 512 pixels."""
    fitted = ImageOps.contain(Pictures.fromarray(picture.numpy()), PREVIEW_BOX, Pictures.Resampling.BILINEAR)
    data = io.BytesIO()
    fitted.save(data, "JPEG", quality=PREVIEW_QUALITY)
    return "image/jpeg", data.getvalue()


def _decoder(ctx: RunContext, latents: LatentFormat) -> TinyDecoder | None:
    """A preview is not worth a failed run: a file that cannot be used is told and left out."""
    library = ctx.services.get(ModelLibrary)
    if library is None:
        return None
    try:
        return tiny_decoder(library, latents)
    except ModelFileError as error:
        ctx.warn(f"previews are rough: {error.message}")
        return None
