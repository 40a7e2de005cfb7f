"""The latent spaces by the names that packs know: calling one gives Limner's own."""

from __future__ import annotations

from typing import Any

from limner.compat.kinds import Kind
from limner.diffusion import formats
from limner.diffusion.latents import LatentFormat as _Format


class LatentFormat(metaclass=Kind):
    """Any latent space. A pack's own subclasses it and gives its members as class attributes."""

    scale_factor = 1.0
    latent_channels = 4
    latent_dimensions = 2
    latent_rgb_factors: Any = None
    latent_rgb_factors_bias: Any = None
    taesd_decoder_name: Any = None

    def process_in(self, latent: Any) -> Any:
        return latent * self.scale_factor

    def process_out(self, latent: Any) -> Any:
        return latent / self.scale_factor


LatentFormat.stands_for = staticmethod(lambda each: isinstance(each, _Format) or LatentFormat in type(each).__mro__)

OWN = {
    "SD15": formats.SD15,
    "SDXL": formats.SDXL,
    "SDXL_Playground_2_5": formats.PLAYGROUND_2_5,
    "SD_X4": formats.SD_X4,
    "SC_Prior": formats.CASCADE_C,
    "SC_B": formats.CASCADE_B,
    "SD3": formats.SD3,
    "StableAudio1": formats.STABLE_AUDIO,
    "Flux": formats.FLUX,
    "Mochi": formats.MOCHI,
    "LTXV": formats.LTXV,
    "HunyuanVideo": formats.HUNYUAN_VIDEO,
    "Cosmos1CV8x8x8": formats.COSMOS_1,
    "Wan21": formats.WAN_21,
    "Wan22": formats.WAN_22,
    "Hunyuan3Dv2": formats.HUNYUAN_3D_2,
    "ACEAudio": formats.ACE_AUDIO,
    "HunyuanImage21": formats.HUNYUAN_IMAGE_21,
}


def _named(name: str, own: _Format) -> type:
    def given(cls: type, *_: Any) -> Any:
        return own

    members: dict[str, Any] = {
        "__new__": given,
        "__doc__": f"The space {own.name}.",
        "__module__": "comfy.latent_formats",
        "stands_for": staticmethod(lambda each: each == own),
        "scale_factor": own.scale_factor,
        "latent_channels": own.channels,
        "latent_dimensions": own.dimensions,
        "latent_rgb_factors": own.latent_rgb_factors,
        "latent_rgb_factors_bias": own.latent_rgb_factors_bias,
        "taesd_decoder_name": own.taesd_decoder_name,
    }
    return Kind(name, (LatentFormat,), members)


globals().update({name: _named(name, own) for name, own in OWN.items()})
