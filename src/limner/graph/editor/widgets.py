"""Widgets: a save holds their values in a row, without names; the catalogue knows which names that row has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from limner.graph.editor.save import Box
from limner.graph.spec import InputSpec, NodeSpec
from limner.graph.types import is_box, is_dynamic

CONTROLS = frozenset({"fixed", "increment", "decrement", "randomize", "increment-wrap"})
"""Values of the box "control after generate", which stands behind a seed and is the editor's alone."""

SEEDS = frozenset({"seed", "noise_seed"})
PLAIN = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COLOR"})


class UnclearWidgets(ValueError):
    """The row of values does not fit the widgets that the class has."""


def values_of(box: Box, spec: NodeSpec) -> dict[str, Any]:
    """The widgets' values by input name. Raises UnclearWidgets."""
    known = {name for name, each in spec.input.items() if is_widget(each)}
    if box.named_values is not None:
        return _wanted(box.named_values, known, spec)
    if isinstance(box.values, dict):
        return _wanted(box.values, known, spec)
    if box.values is None:
        return {}
    if not isinstance(box.values, list):
        raise UnclearWidgets(f"its values are {type(box.values).__name__}, not a list")
    return _in_a_row(box, spec, list(box.values))


def is_widget(each: InputSpec) -> bool:
    """Whether the editor shows a field for this input, beside a socket."""
    if each.kind == "hidden" or each.options.get("forceInput"):
        return False
    return is_box(each.type) or each.type in PLAIN or _is_choice_with_more(each)


def _is_choice_with_more(each: InputSpec) -> bool:
    return is_dynamic(each.type) and "COMBO" in str(each.type)


def _wanted(given: Mapping[str, Any], known: set[str], spec: NodeSpec) -> dict[str, Any]:
    dynamic = tuple(f"{name}." for name, each in spec.input.items() if is_dynamic(each.type))
    return {name: value for name, value in given.items() if name in known or name.startswith(dynamic)}


def _in_a_row(box: Box, spec: NodeSpec, row: list[Any]) -> dict[str, Any]:
    """Values behind those of the class's own widgets are of buttons, or of inputs that newer versions have."""
    found: dict[str, Any] = {}
    rest = iter(row)
    taken = 0
    for name, each in _widgets(box, spec):
        if taken == len(row):  # the class has got inputs since the file was saved
            break
        found[name] = next(rest)
        taken += 1
        if each is not None and not _may_be(each, found[name]):
            raise UnclearWidgets(f"its {name} would be {found[name]!r:.60}; another version of the class saved it")
        if each is not None and _has_control(each, row[taken:]):
            next(rest)
            taken += 1
    return found


def _widgets(box: Box, spec: NodeSpec) -> Iterator[tuple[str, InputSpec | None]]:
    """The names of the widgets in their order; those that follow a choice are named by the save itself."""
    saved = [each.widget for each in box.inputs if each.widget]
    for name, each in spec.input.items():
        if not is_widget(each):
            continue
        yield name, each
        if is_dynamic(each.type):
            yield from ((inner, None) for inner in saved if inner.startswith(f"{name}."))


def _may_be(each: InputSpec, value: Any) -> bool:
    """Whether a value can be this widget's; None stands for one that was never set."""
    if value is None:
        return True
    if each.type in ("INT", "FLOAT"):
        return isinstance(value, int | float) or (isinstance(value, str) and _is_number(value))
    if each.type == "BOOLEAN":
        return isinstance(value, bool | int)
    return each.type != "STRING" or isinstance(value, str | int | float)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _has_control(each: InputSpec, following: Sequence[Any]) -> bool:
    """Whether the next value is that of the box "control after generate" behind a seed."""
    told = each.options.get("control_after_generate")
    may = bool(told) or (told is None and each.type == "INT" and each.name in SEEDS)
    return may and bool(following) and isinstance(following[0], str) and following[0] in CONTROLS
