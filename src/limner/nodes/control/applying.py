"""Nodes that apply control networks to conditionings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from limner.diffusion.conditioning import Conditioning as ConditioningValue
from limner.engine.context import RunContext
from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Float, Socket
from limner.models.controlnet.chain import Control
from limner.nodes.sockets import Conditioning, ControlNet, Image, Mask, Vae

Strength = Annotated[float, Float(0, 10, step=0.01)]
Percent = Annotated[float, Float(0, 1, step=0.001)]
BOTH = {"positive": "CONDITIONING", "negative": "CONDITIONING"}
Told = Annotated[Conditioning, Socket("CONDITIONING", {})]


@node("ControlNetApply", display_name="Apply ControlNet (OLD)", category="conditioning/controlnet", deprecated=True)
def apply_to_one(
    *, conditioning: Conditioning, control_net: ControlNet, image: Image, strength: Strength = 1.0
) -> Conditioning:
    """Lets a picture steer the whole way, through a control network. It counts for the negative too."""
    if not strength:
        return conditioning
    (applied,) = _applied([conditioning], control_net, image, strength, (0.0, 1.0), None)
    return [(text, {**extras, "control_apply_to_uncond": True}) for text, extras in applied]


@node("ControlNetApplyAdvanced", display_name="Apply ControlNet", category="conditioning/controlnet", outputs=BOTH)
def apply_to_both(
    *,
    positive: Conditioning,
    negative: Conditioning,
    control_net: ControlNet,
    image: Image,
    strength: Strength = 1.0,
    start_percent: Percent = 0.0,
    end_percent: Percent = 1.0,
    vae: Vae | None = None,
) -> tuple[Conditioning, Conditioning]:
    """Lets a picture steer a part of the way, through a control network. Several may follow one another.

    The picture is cut to the proportions of the latent. The VAE is for networks that read latents.
    """
    return _both(positive, negative, control_net, image, strength, (start_percent, end_percent), vae)


@node(
    "ControlNetApplySD3",
    display_name="Apply Controlnet with VAE",
    category="conditioning/controlnet",
    module="comfy_extras.nodes_sd3",
    outputs=BOTH,
    schema_style=True,
    deprecated=True,
)
def apply_with_vae(
    *,
    positive: Told,
    negative: Told,
    control_net: Annotated[ControlNet, Socket("CONTROL_NET", {})],
    vae: Annotated[Vae, Socket("VAE", {})],
    image: Annotated[Image, Socket("IMAGE", {})],
    strength: Strength = 1.0,
    start_percent: Percent = 0.0,
    end_percent: Percent = 1.0,
) -> tuple[Conditioning, Conditioning]:
    """Does what Apply ControlNet does, with a VAE for networks that read latents."""
    return _both(positive, negative, control_net, image, strength, (start_percent, end_percent), vae)


@node(
    "ControlNetInpaintingAliMamaApply",
    category="conditioning/controlnet",
    module="comfy_extras.nodes_controlnet",
    outputs=BOTH,
)
def apply_for_inpainting(
    ctx: RunContext,
    *,
    positive: Conditioning,
    negative: Conditioning,
    control_net: ControlNet,
    vae: Vae,
    image: Image,
    mask: Mask,  # noqa: ARG001 - see the docstring
    strength: Strength = 1.0,
    start_percent: Percent = 0.0,
    end_percent: Percent = 1.0,
) -> tuple[Conditioning, Conditioning]:
    """Lets a picture steer, through a control network for inpainting. Networks that take no mask get the picture alone.

    Of the networks that this version loads none takes a mask; a warning says so.
    """
    ctx.warn(f"{control_net.name} takes no mask: the picture alone steers")
    return _both(positive, negative, control_net, image, strength, (start_percent, end_percent), vae)


def _both(
    positive: ConditioningValue,
    negative: ConditioningValue,
    control_net: Control,
    image: Image,
    strength: float,
    part: tuple[float, float],
    vae: Any,
) -> tuple[ConditioningValue, ConditioningValue]:
    if not strength:
        return positive, negative
    first, second = _applied([positive, negative], control_net, image, strength, part, vae)
    return first, second


def _applied(
    conditionings: Sequence[ConditioningValue],
    control_net: Control,
    image: Image,
    strength: float,
    part: tuple[float, float],
    vae: Any,
) -> list[ConditioningValue]:
    """The conditionings with the network behind those applied before: one for all that had the same before."""
    if image.ndim != 4 or 0 in image.shape:
        raise UnfitInput(
            f"the picture has the shape {tuple(image.shape)}; a control network takes (batch, height, width, 3)"
        )
    hint = image.movedim(-1, 1)
    made: dict[int, Control] = {}

    def control(extras: dict[str, Any]) -> Control:
        before = extras.get("control")
        if id(before) not in made:
            copied = control_net.copy().set_cond_hint(hint, strength, part, vae)
            made[id(before)] = copied.set_previous_controlnet(before)
        return made[id(before)]

    return [
        [(text, {**extras, "control": control(extras), "control_apply_to_uncond": False}) for text, extras in each]
        for each in conditionings
    ]
