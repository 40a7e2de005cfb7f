"""A node that turns proportions and an area into a width and a height."""

from __future__ import annotations

import math
from typing import Annotated, Any

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Choices, Float, Int, Socket
from limner.nodes.sockets import Integer

MEGAPIXEL = 1024 * 1024

RATIOS = {
    "1:1 (Square)": (1, 1),
    "2:3 (Portrait Photo)": (2, 3),
    "3:2 (Photo)": (3, 2),
    "3:4 (Portrait Standard)": (3, 4),
    "4:3 (Standard)": (4, 3),
    "9:16 (Portrait Widescreen)": (9, 16),
    "16:9 (Widescreen)": (16, 9),
    "21:9 (Ultrawide)": (21, 9),
}


@node(
    "ResolutionSelector",
    display_name="Resolution Selector",
    category="utils",
    module="comfy_extras.nodes_resolution",
    schema_style=True,
    outputs={"width": "INT", "height": "INT"},
)
def select_resolution(
    *,
    aspect_ratio: Annotated[str, Choices(*RATIOS)] = "1:1 (Square)",
    megapixels: Annotated[float, Float(0.1, 16, step=0.1)] = 1.0,
    multiple: Annotated[int, Int(8, 128, step=4, optional=True)] = 8,
    preview: Annotated[Any, Socket("RESOLUTION_PREVIEW", {})] = None,  # noqa: ARG001 - the editor draws there
) -> tuple[Integer, Integer]:
    """A width and a height with these proportions and about this area, each a multiple of a number.

    A megapixel is 1024 x 1024 pixels here.
    """
    if aspect_ratio not in RATIOS:
        raise UnfitInput(f"the proportions {aspect_ratio!r:.100} are none of {', '.join(RATIOS)}")
    across, down = RATIOS[aspect_ratio]
    unit = math.sqrt(megapixels * MEGAPIXEL / (across * down))
    width, height = (max(1, round(edge * unit / multiple)) * multiple for edge in (across, down))
    return width, height
