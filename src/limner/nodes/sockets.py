"""What travels over links, as types for node functions: `Image` is a tensor whose socket is IMAGE, and so on.

A few nodes show an empty options object beside a socket's type; those annotate `Annotated[Image, Socket("IMAGE", {})]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from torch import Tensor

from limner.diffusion import conditioning, latents
from limner.graph.types import Socket
from limner.models import clip, clip_vision, gligen, model, style, vae
from limner.models.controlnet import chain
from limner.models.upscale import model as upscale_model
from limner.nodes.media import audio, video

Image = Annotated[Tensor, Socket("IMAGE")]
"""(B, H, W, C) float32 in 0..1."""

Mask = Annotated[Tensor, Socket("MASK")]
"""(B, H, W) float32 in 0..1; 1 where the mask covers."""

Latent = Annotated[latents.Latent, Socket("LATENT")]
LatentOperation = Annotated[Callable[..., Tensor], Socket("LATENT_OPERATION")]
"""Called as operation(latent=tensor); gives a tensor of the same shape."""

Conditioning = Annotated[conditioning.Conditioning, Socket("CONDITIONING")]
Model = Annotated[model.Model, Socket("MODEL")]
Clip = Annotated[clip.Clip, Socket("CLIP")]
Vae = Annotated[vae.Vae, Socket("VAE")]
ControlNet = Annotated[chain.Control, Socket("CONTROL_NET")]
ClipVision = Annotated[clip_vision.ClipVision, Socket("CLIP_VISION")]
ClipVisionOutput = Annotated[clip_vision.Seen, Socket("CLIP_VISION_OUTPUT")]
StyleModel = Annotated[style.StyleModel, Socket("STYLE_MODEL")]
Gligen = Annotated[gligen.Gligen, Socket("GLIGEN")]
UpscaleModel = Annotated[upscale_model.UpscaleModel, Socket("UPSCALE_MODEL")]
Sigmas = Annotated[Tensor, Socket("SIGMAS")]
"""(steps + 1,) float32, falling noise levels."""

Integer = Annotated[int, Socket("INT")]
Number = Annotated[float, Socket("FLOAT")]
String = Annotated[str, Socket("STRING")]
Boolean = Annotated[bool, Socket("BOOLEAN")]
Audio = Annotated[audio.Audio, Socket("AUDIO")]
Video = Annotated[video.VideoInput, Socket("VIDEO")]
