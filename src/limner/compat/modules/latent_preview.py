"""Step previews of a sampler that a pack runs itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image as Pictures
from torch import Tensor

from limner.compat.modules.comfy.cli_args import LatentPreviewMethod as LatentPreviewMethod
from limner.compat.modules.comfy.cli_args import args
from limner.compat.modules.comfy.utils import ProgressBar
from limner.compat.unoffered import no_class

MAX_PREVIEW_RESOLUTION = args.preview_size


def preview_to_image(latent_image: Tensor) -> Pictures.Image:
    """A picture (H, W, 3) in -1..1 as one of Pillow's."""
    values = ((latent_image + 1.0) / 2.0).clamp(0, 1).mul(255).to(device="cpu", dtype=torch.uint8)
    return Pictures.fromarray(values.numpy())


class LatentPreviewer:
    """Base: a subclass makes a picture of the first latent of a batch."""

    def decode_latent_to_preview(self, x0: Tensor) -> Pictures.Image:
        raise NotImplementedError(f"{type(self).__name__} makes no pictures")

    def decode_latent_to_preview_image(self, preview_format: str, x0: Tensor) -> tuple[str, Pictures.Image, int]:
        return preview_format, self.decode_latent_to_preview(x0), MAX_PREVIEW_RESOLUTION


class Latent2RGBPreviewer(LatentPreviewer):
    """Each latent pixel becomes a pixel, by a factor for each channel and colour."""

    def __init__(self, latent_rgb_factors: Any, latent_rgb_factors_bias: Any = None) -> None:
        self.latent_rgb_factors = torch.tensor(latent_rgb_factors).transpose(0, 1)
        self.latent_rgb_factors_bias = (
            None if latent_rgb_factors_bias is None else torch.tensor(latent_rgb_factors_bias)
        )

    def decode_latent_to_preview(self, x0: Tensor) -> Pictures.Image:
        """`x0`: (B, C, h, w), or with frames (B, C, T, h, w), of which the first is shown."""
        first = x0[0, :, 0] if x0.ndim == 5 else x0[0]
        factors = self.latent_rgb_factors.to(first)
        bias = None if self.latent_rgb_factors_bias is None else self.latent_rgb_factors_bias.to(first)
        return preview_to_image(torch.nn.functional.linear(first.movedim(0, -1), factors, bias=bias))


class TAESDPreviewerImpl(LatentPreviewer):
    """Pictures by a small VAE of a pack's own, which has `decode`."""

    def __init__(self, taesd: Any) -> None:
        self.taesd = taesd

    def decode_latent_to_preview(self, x0: Tensor) -> Pictures.Image:
        return preview_to_image(self.taesd.decode(x0[:1])[0].movedim(0, 2))


TAESD = no_class("latent_preview", "TAESD")


def get_previewer(device: Any, latent_format: Any) -> LatentPreviewer | None:
    """What makes pictures of this kind of latent; None where previews are off or the factors unknown."""
    factors = getattr(latent_format, "latent_rgb_factors", None)
    if args.preview_method == LatentPreviewMethod.NoPreviews or factors is None:
        return None
    return Latent2RGBPreviewer(factors, getattr(latent_format, "latent_rgb_factors_bias", None))


def prepare_callback(model: Any, steps: int, x0_output_dict: dict[str, Any] | None = None) -> Callable[..., None]:
    """A sampler's `callback(step, x0, x, total_steps)` that tells the progress, with previews."""
    latent_format = getattr(getattr(model, "model", model), "latent_format", None)
    previewer = get_previewer(getattr(model, "load_device", None), latent_format)
    bar = ProgressBar(steps)

    def callback(step: int, x0: Any, x: Any, total_steps: int) -> None:
        if x0_output_dict is not None:
            x0_output_dict["x0"] = x0
        picture = None if previewer is None else previewer.decode_latent_to_preview_image("JPEG", x0)
        bar.update_absolute(step + 1, total_steps, picture)

    return callback
