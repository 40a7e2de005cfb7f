"""What all nodes that write media files share: where to write, and what texts go in."""

from __future__ import annotations

import hashlib
import random
import string
from typing import Annotated, Any

from limner.engine.context import RunContext
from limner.errors import UnfitInput
from limner.graph.types import Hidden
from limner.nodes.image.files import png_texts

Prompt = Annotated[Any, Hidden("PROMPT")]
ExtraInfo = Annotated[Any, Hidden("EXTRA_PNGINFO")]

TEMP_LETTERS = 5


def texts(prompt: Any, extra_pnginfo: Any) -> dict[str, str]:
    """What is written into a file beside its content: the prompt, and each extra value, as JSON. Raises UnfitInput."""
    inside = png_texts(prompt, extra_pnginfo)
    for key in inside:
        if "=" in key or key != key.strip():
            raise UnfitInput(f"extra_pnginfo has the key {key!r:.100}, which a sound or video file cannot hold")
    return inside


def temp_prefix() -> str:
    """The beginning of a preview file's name."""
    return "ComfyUI_temp_" + "".join(random.choices(string.ascii_lowercase, k=TEMP_LETTERS))


def digest(ctx: RunContext, reference: str) -> str:
    """The SHA-256 of an input file: what a node that loads it depends on."""
    with ctx.files.input(reference).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
