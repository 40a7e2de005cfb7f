"""Nodes that make latents, and turn them into pictures and back."""

from __future__ import annotations

from typing import Annotated

from limner.diffusion.latents import empty
from limner.graph.spec import node
from limner.graph.types import Int, Socket
from limner.nodes.memory import check_room
from limner.nodes.sockets import Image, Latent, Vae


@node("EmptyLatentImage", display_name="Empty Latent Image", category="latent")
def empty_latent(
    *,
    width: Annotated[int, Int(16, 16384, step=8)] = 512,
    height: Annotated[int, Int(16, 16384, step=8)] = 512,
    batch_size: Annotated[int, Int(1, 4096)] = 1,
) -> Latent:
    """An empty latent: the start of new pictures of this size in pixels."""
    check_room(batch_size, 4, height // 8, width // 8)
    return empty(width, height, batch_size)


@node("VAEDecode", display_name="VAE Decode", category="latent")
def vae_decode(*, samples: Annotated[Latent, Socket("LATENT", {})], vae: Annotated[Vae, Socket("VAE", {})]) -> Image:
    """Decodes latents into pictures."""
    batch, _, height, width = samples["samples"].shape
    check_room(batch, height * vae.latents.stride, width * vae.latents.stride, 3)
    return vae.decode(samples["samples"])


@node("VAEEncode", display_name="VAE Encode", category="latent")
def vae_encode(*, pixels: Image, vae: Vae) -> Latent:
    """Encodes pictures into latents. Edges that do not fill a whole place (8 pixels) are cut off."""
    return {"samples": vae.encode(pixels)}
