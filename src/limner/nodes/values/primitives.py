"""Nodes that hand on a value typed into them."""

from __future__ import annotations

from typing import Annotated, Any

from limner.graph.node import node
from limner.graph.types import Flag, Int, Marker, Text
from limner.nodes.sockets import Boolean, Integer, Number, String

MODULE, CATEGORY = "comfy_extras.nodes_primitive", "utils/primitive"
LARGEST = 2**63 - 1


@node("PrimitiveString", display_name="String", category=CATEGORY, module=MODULE, schema_style=True)
def primitive_string(*, value: Annotated[str, Text()]) -> String:
    """A text of one line."""
    return value


@node(
    "PrimitiveStringMultiline", display_name="String (Multiline)", category=CATEGORY, module=MODULE, schema_style=True
)
def primitive_multiline(*, value: Annotated[str, Text(multiline=True)]) -> String:
    """A text of several lines."""
    return value


@node("PrimitiveInt", display_name="Int", category=CATEGORY, module=MODULE, schema_style=True)
def primitive_int(*, value: Annotated[int, Int(-LARGEST, LARGEST, control_after_generate=True)]) -> Integer:
    """A whole number."""
    return value


@node("PrimitiveFloat", display_name="Float", category=CATEGORY, module=MODULE, schema_style=True)
def primitive_float(*, value: Annotated[float, Marker("FLOAT", {"min": -LARGEST, "max": LARGEST})]) -> Number:
    """A number."""
    return value


@node("PrimitiveBoolean", display_name="Boolean", category=CATEGORY, module=MODULE, schema_style=True)
def primitive_boolean(*, value: Annotated[bool, Flag()]) -> Boolean:
    """Yes or no."""
    return value


@node(
    "SeedNode",
    display_name="Seed",
    category=CATEGORY,
    module=MODULE,
    schema_style=True,
    outputs={"seed": "INT"},
)
def seed(*, seed: Annotated[int, Int(0, LARGEST, control_after_generate=True)] = 0) -> Integer:
    """A seed, to share one between several nodes."""
    return seed


@node(
    "CustomCombo",
    display_name="Custom Combo",
    category="utils",
    module="comfy_extras.nodes_logic",
    schema_style=True,
    experimental=True,
    outputs={"STRING": "STRING", "INDEX": "INT"},
)
def custom_combo(
    *, choice: Annotated[Any, Marker("COMBO", {"multiselect": False})], index: Annotated[int, Int(optional=True)] = 0
) -> tuple[String, Integer]:
    """One of the texts that a user wrote into this node, and its number, counted from 0. Every text is taken."""
    return str(choice), index
