"""Nodes that turn prompts into conditioning."""

from __future__ import annotations

from typing import Annotated, Any

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Choices, Float, Int, Socket, Text
from limner.nodes.sockets import Clip, Conditioning

EDGE_LIMIT = 16384
"""The longest edge of a picture, in pixels, that a size condition may tell."""

ClipIn = Annotated[Clip, Socket("CLIP", {})]
Prompt = Annotated[str, Text(multiline=True, dynamic_prompts=True)]
Edge = Annotated[int, Int(0, EDGE_LIMIT)]

SDXL, SD3 = "comfy_extras.nodes_clip_sdxl", "comfy_extras.nodes_sd3"


@node("CLIPTextEncode", display_name="CLIP Text Encode (Prompt)", category="conditioning")
def encode_text(*, text: Prompt, clip: ClipIn) -> Conditioning:
    """Encodes a prompt, so that it can guide a model. `(word:1.2)` makes a word count more."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


@node("CLIPTextEncodeSDXL", category="advanced/conditioning", module=SDXL, schema_style=True)
def encode_text_sdxl(
    *,
    clip: ClipIn,
    width: Edge = 1024,
    height: Edge = 1024,
    crop_w: Edge = 0,
    crop_h: Edge = 0,
    target_width: Edge = 1024,
    target_height: Edge = 1024,
    text_g: Prompt,
    text_l: Prompt,
) -> Conditioning:
    """Encodes a prompt for Stable Diffusion XL, with a text for each of its two encoders.

    The sizes say what kind of picture is wanted: width and height of the original, where it was cut, and the target.
    """
    _needs(clip, "CLIPTextEncodeSDXL", ("l", "g"))
    tokens = {"g": clip.tokenize(text_g)["g"], "l": clip.tokenize(text_l)["l"]}
    _even(clip, tokens)
    sizes = {
        "width": width,
        "height": height,
        "crop_w": crop_w,
        "crop_h": crop_h,
        "target_width": target_width,
        "target_height": target_height,
    }
    return clip.encode_from_tokens_scheduled(tokens, add_dict=sizes)


@node("CLIPTextEncodeSDXLRefiner", category="advanced/conditioning", module=SDXL, schema_style=True)
def encode_text_refiner(
    *,
    ascore: Annotated[float, Float(0, 1000, step=0.01)] = 6.0,
    width: Edge = 1024,
    height: Edge = 1024,
    text: Prompt,
    clip: ClipIn,
) -> Conditioning:
    """Encodes a prompt for the refiner of Stable Diffusion XL; ascore says how beautiful the picture shall be."""
    facts = {"aesthetic_score": ascore, "width": width, "height": height}
    return clip.encode_from_tokens_scheduled(clip.tokenize(text), add_dict=facts)


@node("CLIPTextEncodeSD3", category="advanced/conditioning", module=SD3, schema_style=True)
def encode_text_sd3(
    *,
    clip: ClipIn,
    clip_l: Prompt,
    clip_g: Prompt,
    t5xxl: Prompt,
    empty_padding: Annotated[str, Choices("none", "empty_prompt")],
) -> Conditioning:
    """Encodes a prompt for Stable Diffusion 3, with a text for each of its encoders.

    An empty text is left out (none) or encoded like any other (empty_prompt).
    """
    _needs(clip, "CLIPTextEncodeSD3", ("l", "g", "t5xxl"))
    loaded = clip.tokenize("")
    texts = {"l": clip_l, "g": clip_g, "t5xxl": t5xxl}
    tokens: dict[str, list[Any]] = {
        name: [] if empty_padding == "none" and not text else clip.tokenize(text)[name]
        for name, text in texts.items()
        if name in loaded
    }
    _even(clip, tokens)
    return clip.encode_from_tokens_scheduled(tokens)


@node("CLIPTextEncodeFlux", category="advanced/conditioning/flux", module="comfy_extras.nodes_flux", schema_style=True)
def encode_text_flux(
    *,
    clip: ClipIn,
    clip_l: Prompt,
    t5xxl: Prompt,
    guidance: Annotated[float, Float(0, 100, step=0.1)] = 3.5,
) -> Conditioning:
    """Encodes a prompt for Flux.1, with a text for each of its two encoders, and says how closely to follow it."""
    _needs(clip, "CLIPTextEncodeFlux", ("l", "t5xxl"))
    tokens = {"l": clip.tokenize(clip_l)["l"], "t5xxl": clip.tokenize(t5xxl)["t5xxl"]}
    return clip.encode_from_tokens_scheduled(tokens, add_dict={"guidance": guidance})


@node(
    "CLIPTextEncodeControlnet",
    category="_for_testing/conditioning",
    module="comfy_extras.nodes_cond",
    schema_style=True,
    experimental=True,
)
def encode_text_controlnet(
    *, clip: ClipIn, conditioning: Annotated[Conditioning, Socket("CONDITIONING", {})], text: Prompt
) -> Conditioning:
    """Encodes a prompt of its own for the control networks of a conditioning."""
    context, pooled = clip.read(text)
    own = {"cross_attn_controlnet": context, "pooled_output_controlnet": pooled}
    return [(each, {**extras, **own}) for each, extras in conditioning]


def _needs(clip: Clip, name: str, parts: tuple[str, ...]) -> None:
    """Raises UnfitInput where the text encoder is of a family that does not have all of these."""
    if not set(parts) <= {part.name for part in clip.family.parts}:
        raise UnfitInput(
            f"{name} wants a text encoder with the parts {', '.join(parts)}; this one is that of {clip.family.title}"
        )


def _even(clip: Clip, tokens: dict[str, list[Any]]) -> None:
    """Gives L and G the same number of sections: empty ones are put behind the fewer."""
    most = max(len(tokens.get(name, ())) for name in ("l", "g"))
    for name in ("l", "g"):
        if name in tokens and len(tokens[name]) < most:
            tokens[name] = [*tokens[name], *clip.tokenize("")[name] * (most - len(tokens[name]))]
