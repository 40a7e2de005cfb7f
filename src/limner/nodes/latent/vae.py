"""Nodes that turn pictures into latents and back."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.engine.context import RunContext
from limner.graph.node import node
from limner.graph.types import Int, Socket
from limner.nodes.inpainting import cut_to_places, greyed
from limner.nodes.memory import check_room
from limner.nodes.sockets import Image, Latent, Mask, Vae

Frames = Annotated[int, Int(8, 4096, step=4)]
FrameOverlap = Annotated[int, Int(4, 4096, step=4)]


@node("VAEDecode", display_name="VAE Decode", category="latent")
def vae_decode(*, samples: Annotated[Latent, Socket("LATENT", {})], vae: Annotated[Vae, Socket("VAE", {})]) -> Image:
    """Decodes latents into pictures. Where memory does not suffice for the whole, piece by piece."""
    _check_room(samples["samples"], vae)
    return vae.decode(samples["samples"])


@node("VAEEncode", display_name="VAE Encode", category="latent")
def vae_encode(*, pixels: Image, vae: Vae) -> Latent:
    """Encodes pictures into latents. Edges that do not fill a whole place (8 pixels) are cut off."""
    return {"samples": vae.encode(pixels)}


@node("VAEDecodeTiled", display_name="VAE Decode (Tiled)", category="_for_testing")
def vae_decode_tiled(
    ctx: RunContext,
    *,
    samples: Latent,
    vae: Vae,
    tile_size: Annotated[int, Int(64, 4096, step=32)] = 512,
    overlap: Annotated[int, Int(0, 4096, step=32)] = 64,
    temporal_size: Frames = 64,  # noqa: ARG001 - no VAE here compresses time
    temporal_overlap: FrameOverlap = 8,  # noqa: ARG001
) -> Image:
    """Decodes latents piece by piece, for pictures that would not fit the memory as a whole.

    tile_size: edge of a piece in pixels. overlap: what neighbours share, where they are blended; at most a quarter of a
    piece. temporal_size, temporal_overlap: the same in frames; only VAEs that compress time have pieces in time.
    """
    _check_room(samples["samples"], vae)
    return vae.decode_tiled(
        samples["samples"],
        *(max(1, tile_size // vae.latents.stride),) * 2,
        overlap // vae.latents.stride,
        on_tile=ctx.progress,
    )


@node("VAEEncodeTiled", display_name="VAE Encode (Tiled)", category="_for_testing")
def vae_encode_tiled(
    ctx: RunContext,
    *,
    pixels: Image,
    vae: Vae,
    tile_size: Annotated[int, Int(64, 4096, step=64)] = 512,
    overlap: Annotated[int, Int(0, 4096, step=32)] = 64,
    temporal_size: Frames = 64,  # noqa: ARG001 - no VAE here compresses time
    temporal_overlap: FrameOverlap = 8,  # noqa: ARG001
) -> Latent:
    """Encodes pictures piece by piece, for those that would not fit the memory as a whole.

    tile_size: edge of a piece in pixels. overlap: what neighbours share, where they are blended; at most a quarter of a
    piece. temporal_size, temporal_overlap: the same in frames; only VAEs that compress time have pieces in time.
    """
    encoded = vae.encode_tiled(
        pixels,
        tile_size,
        tile_size,
        overlap,
        on_tile=ctx.progress,
    )
    return {"samples": encoded}


@node("VAEEncodeForInpaint", display_name="VAE Encode (for Inpainting)", category="latent/inpaint")
def vae_encode_for_inpaint(
    *, pixels: Image, vae: Vae, mask: Mask, grow_mask_by: Annotated[int, Int(0, 64, step=1)] = 6
) -> Latent:
    """Encodes a picture whose masked part is to be painted anew: it becomes grey, and the latent gets the mask.

    grow_mask_by: by how many pixels the latent's mask is larger, so that the seam is painted over too.
    """
    pixels, masks = cut_to_places(pixels, mask, vae.latents.stride)
    return {"samples": vae.encode(greyed(pixels, masks)), "noise_mask": grown(masks.round(), grow_mask_by)}


def grown(masks: Tensor, pixels: int) -> Tensor:
    """Masks (B, 1, H, W) of zeros and ones, 1 wherever one lies within a square of this edge."""
    if pixels == 0:
        return masks
    square = torch.ones(1, 1, pixels, pixels)
    wide = F.conv2d(masks, square, padding=math.ceil((pixels - 1) / 2)).clamp(0, 1)
    return wide[..., : masks.shape[-2], : masks.shape[-1]].round()


def _check_room(samples: Tensor, vae: Vae) -> None:
    edges = [edge * vae.latents.stride for edge in samples.shape[2:]]
    check_room(len(samples), *edges, vae.channels)
