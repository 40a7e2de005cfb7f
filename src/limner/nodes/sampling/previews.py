"""Pictures of half-done work."""

from __future__ import annotations

import io

from PIL import Image as Pictures
from PIL import ImageOps
from torch import Tensor

from limner.diffusion.latents import LatentFormat

PREVIEW_BOX = (512, 512)
PREVIEW_QUALITY = 95


def preview(latents: LatentFormat, clean: Tensor) -> tuple[str, bytes] | None:
    """A rough JPEG of the first item of a half-done latent, fitted into a box of 512 pixels.

    clean: (B, C, [frames,] h, w) in the network's units. None for spaces whose colours are not known.
    """
    if not latents.rgb or clean.ndim < 4:
        return None
    picture = Pictures.fromarray(latents.colours(clean[:1].float())[0].cpu().numpy())
    picture = ImageOps.contain(picture, PREVIEW_BOX, Pictures.Resampling.BILINEAR)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=PREVIEW_QUALITY)
    return "image/jpeg", data.getvalue()
