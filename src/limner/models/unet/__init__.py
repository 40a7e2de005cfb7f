"""The walk through a UNet of diffusers' layout, with the hooks that node packs know. `walk` begins it."""

from limner.models.unet.walk import run

__all__ = ["run"]
