"""Lists between nodes. Every value is a list inside: a node is called once for each item, and its outputs are joined.

Shorter lists repeat their last item. A node that takes lists is called once, with all of them whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from limner.graph.blocker import ExecutionBlocker
from limner.graph.kinds import Result
from limner.graph.spec import OutputSpec

Items = list[Any]
Slots = tuple[Items, ...]


def calls(inputs: Mapping[str, Items], *, whole: bool) -> list[dict[str, Any]]:
    """The arguments of each call. Without inputs there is one call; where all lists are empty there is none.

    Raises IndexError where one list is empty and another is not.
    """
    if whole:
        return [dict(inputs)]
    longest = max(map(len, inputs.values()), default=1)
    return [
        {name: items[index] if index < len(items) else items[-1] for name, items in inputs.items()}
        for index in range(longest)
    ]


def joined(results: Sequence[Result], outputs: Sequence[OutputSpec]) -> Slots:
    """The outputs of all calls, slot by slot. Of values that are not declared nothing is kept.

    Raises TypeError where what should be a list is none.
    """
    there = min((len(result.values) for result in results), default=len(outputs))
    return tuple(
        [item for result in results for item in _items(result.values[slot], output)]
        for slot, output in enumerate(outputs[:there])
    )


def joined_ui(results: Iterable[Result]) -> dict[str, list[Any]] | None:
    """What the calls want shown, joined for each key that the first of them has. Raises TypeError for no list."""
    shown = [result.ui for result in results if result.ui]
    if not shown:
        return None
    return {name: [item for each in shown for item in _shown_items(name, each.get(name, []))] for name in shown[0]}


def _items(value: Any, output: OutputSpec) -> Iterable[Any]:
    if not output.is_list or isinstance(value, ExecutionBlocker):
        return (value,)
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"output {output.name} must be a list, not {type(value).__name__}")
    return value


def _shown_items(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"ui[{name!r}] must be a list, not {type(value).__name__}")
    return value
