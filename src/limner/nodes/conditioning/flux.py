"""Nodes for what Flux and editing models are told beside the text."""

from __future__ import annotations

from typing import Annotated

from limner.graph.node import node
from limner.graph.types import Choices, Float, Socket
from limner.nodes.conditioning.changing import with_extras
from limner.nodes.scaling import scale
from limner.nodes.sockets import Conditioning, Image, Latent

FLUX = "comfy_extras.nodes_flux"
CATEGORY = "advanced/conditioning/flux"

Told = Annotated[Conditioning, Socket("CONDITIONING", {})]

KONTEXT_SIZES = (
    (672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184), (944, 1104),
    (1024, 1024), (1104, 944), (1184, 880), (1248, 832), (1328, 800), (1392, 752), (1456, 720), (1504, 688),
    (1568, 672),
)  # fmt: skip
"""The widths and heights that Flux.1 Kontext was trained at."""


@node("FluxGuidance", category=CATEGORY, module=FLUX, schema_style=True)
def flux_guidance(*, conditioning: Told, guidance: Annotated[float, Float(0, 100, step=0.1)] = 3.5) -> Conditioning:
    """Tells a guidance-distilled model how closely to follow the text."""
    return with_extras(conditioning, {"guidance": guidance})


@node("FluxDisableGuidance", category=CATEGORY, module=FLUX, schema_style=True)
def flux_disable_guidance(*, conditioning: Told) -> Conditioning:
    """Tells a guidance-distilled model nothing of guidance."""
    return with_extras(conditioning, {"guidance": None})


@node("FluxKontextImageScale", category=CATEGORY, module=FLUX, schema_style=True)
def flux_kontext_image_scale(*, image: Annotated[Image, Socket("IMAGE", {})]) -> Image:
    """Scales a picture to the size nearest in proportion among those that Flux.1 Kontext was trained at."""
    height, width = image.shape[1:3]
    wanted = min(KONTEXT_SIZES, key=lambda size: abs(width / height - size[0] / size[1]))
    return scale(image, *wanted, "lanczos", "center")


@node("FluxKontextMultiReferenceLatentMethod", category=CATEGORY, module=FLUX, schema_style=True, experimental=True)
def flux_kontext_method(
    *, conditioning: Told, reference_latents_method: Annotated[str, Choices("offset", "index", "uxo/uno")]
) -> Conditioning:
    """Says how several reference pictures are told apart: side by side, or one behind the other."""
    method = "uxo" if reference_latents_method == "uxo/uno" else reference_latents_method
    return with_extras(conditioning, {"reference_latents_method": method})


@node(
    "ReferenceLatent",
    category="advanced/conditioning/edit_models",
    module="comfy_extras.nodes_edit_model",
    schema_style=True,
)
def reference_latent(
    *, conditioning: Told, latent: Annotated[Latent | None, Socket("LATENT", {}, optional=True)] = None
) -> Conditioning:
    """Shows an editing model a picture to go by. Several may follow one another."""
    if latent is None:
        return conditioning
    return with_extras(conditioning, {"reference_latents": [latent["samples"]]}, append=True)
