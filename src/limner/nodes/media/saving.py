"""What all nodes that write media files share: what texts go in."""

from __future__ import annotations

from typing import Annotated, Any

from limner.errors import UnfitInput
from limner.graph.types import Hidden
from limner.nodes.image.files import png_texts

Prompt = Annotated[Any, Hidden("PROMPT")]
ExtraInfo = Annotated[Any, Hidden("EXTRA_PNGINFO")]


def texts(prompt: Any, extra_pnginfo: Any) -> dict[str, str]:
    """What is written into a file beside its content: the prompt, and each extra value, as JSON. Raises UnfitInput."""
    inside = png_texts(prompt, extra_pnginfo)
    for key in inside:
        if "=" in key or key != key.strip():
            raise UnfitInput(f"extra_pnginfo has the key {key!r:.100}, which a sound or video file cannot hold")
    return inside
