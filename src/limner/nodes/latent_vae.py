"""Nodes that turn latents into pictures and back."""

from __future__ import annotations

from typing import Annotated

from limner.graph.spec import node
from limner.graph.types import Socket
from limner.nodes.memory import check_room
from limner.nodes.sockets import Image, Latent, Vae


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
