"""Lazy inputs: a node is asked which of them it wants before what feeds them is made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from limner.engine.blocker import first_blocker
from limner.engine.mapping import Items, calls
from limner.engine.wiring import Wiring
from limner.errors import RunError


def missing_lazy(
    wiring: Wiring,
    inputs: Mapping[str, Items],
    unmade: Collection[str],
    ask: Callable[[Mapping[str, Any]], Any],
    *,
    whole: bool,
) -> list[str]:
    """The lazy inputs that a node wants, of those that are `unmade`: these stand as None among its arguments.

    Each call is asked, but for one that a blocker keeps from being made. Raises RunError where the node asks for an
    input that is no link, or that it does not have.
    """
    wanted: dict[str, None] = {}
    for arguments in calls(inputs, whole=whole):
        items = (item for items in arguments.values() for item in items) if whole else arguments.values()
        if first_blocker(items) is not None:
            continue
        answer = ask(arguments)
        for name in answer or ():
            if name is None:
                continue
            if name not in wiring.links:
                state = "has a value of its own" if name in inputs else "is not there"
                raise RunError(f"check_lazy_status asked for input {name!r}, which {state}: only links can be made")
            if name in unmade:
                wanted[name] = None
    return list(wanted)
