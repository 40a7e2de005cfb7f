"""A node that chooses between two inputs, of which only the chosen one is made."""

from __future__ import annotations

from typing import Annotated, Any

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.spec import OutputSpec
from limner.graph.types import MATCHING, Flag, Matches

NOT_CONNECTED = object()

Branch = Annotated[Any, Matches("switch", {"lazy": True}, optional=True)]


def _chosen_branch(switch: bool, on_false: Any = NOT_CONNECTED, on_true: Any = NOT_CONNECTED) -> list[str]:
    if switch:
        return [] if on_true is NOT_CONNECTED else ["on_true"]
    return [] if on_false is NOT_CONNECTED else ["on_false"]


@node(
    "ComfySwitchNode",
    display_name="Switch",
    category="logic",
    module="comfy_extras.nodes_logic",
    schema_style=True,
    experimental=True,
    lazy=_chosen_branch,
    outputs=(OutputSpec(name="output", type=MATCHING, any_type=True),),
)
def switch(
    *, switch: Annotated[bool, Flag()], on_false: Branch = NOT_CONNECTED, on_true: Branch = NOT_CONNECTED
) -> Any:
    """Gives `on_true` or `on_false`, as the switch says. What feeds the other one is not made, and may be absent."""
    name, value = ("on_true", on_true) if switch else ("on_false", on_false)
    if value is NOT_CONNECTED:
        raise UnfitInput(f"the switch is {'on' if switch else 'off'}, but {name} is not connected")
    return value
