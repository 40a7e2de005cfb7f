"""Nodes that turn prompts into conditioning."""

from __future__ import annotations

from typing import Annotated

from limner.graph.spec import node
from limner.graph.types import Socket, Text
from limner.nodes.sockets import Clip, Conditioning


@node("CLIPTextEncode", display_name="CLIP Text Encode (Prompt)", category="conditioning")
def encode_text(
    *, text: Annotated[str, Text(multiline=True, dynamic_prompts=True)], clip: Annotated[Clip, Socket("CLIP", {})]
) -> Conditioning:
    """Encodes a prompt, so that it can guide a model. `(word:1.2)` makes a word count more."""
    context, pooled = clip.encode(text)
    return [(context, {"pooled_output": pooled})]
