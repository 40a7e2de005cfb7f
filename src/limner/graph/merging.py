"""One spec for a class that workers have in different forms: of another version, or with other choices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from limner.graph.spec import InputSpec, NodeSpec, OutputSpec


def merged(specs: Sequence[NodeSpec]) -> NodeSpec:
    """A spec that takes what any of these takes. Where they differ in looks, the first one's are shown.

    The job goes to any of their workers; one that cannot take it says so, and another gets it.
    """
    different = _different(specs)
    if len(different) == 1:
        return different[0]
    first = different[0]
    names = dict.fromkeys(each.name for spec in different for each in spec.inputs)
    found = [_input(name, different) for name in names]
    kinds = tuple(dict.fromkeys(kind for spec in different for kind in spec.kinds))
    order = [*kinds, *dict.fromkeys(each.kind for each in found)]
    return replace(
        first,
        inputs=tuple(sorted(found, key=lambda each: order.index(each.kind))),
        outputs=_outputs([spec.outputs for spec in different]),
        output_node=any(spec.output_node for spec in different),
        open_inputs=any(spec.open_inputs for spec in different),
        foreign=any(spec.foreign for spec in different),
        python_module=next((spec.python_module for spec in different if spec.lenient), first.python_module),
        validator=first.validator if all(spec.validator == first.validator for spec in different) else None,
        kinds=kinds,
    )


def _different(specs: Iterable[NodeSpec]) -> list[NodeSpec]:
    found: list[NodeSpec] = []
    for spec in specs:
        if spec not in found:
            found.append(spec)
    return found


def _input(name: str, specs: Sequence[NodeSpec]) -> InputSpec:
    """An input that not every one of them has, or that one of them can do without, is optional."""
    having = [each for spec in specs for each in spec.inputs if each.name == name]
    first = having[0]
    if any(each.kind == "hidden" for each in having):
        return first
    always = len(having) == len(specs) and all(each.kind == "required" for each in having)
    one = first if all(each == first for each in having) else _joined(having)
    return replace(one, kind="required" if always else "optional")


def _joined(having: Sequence[InputSpec]) -> InputSpec:
    """The first of them, taking what any takes: the choices of all, the widest limits, links of any type."""
    base = next((each for each in having if each.folder or each.upload), having[0])
    options = {**base.options}
    for limit, widest in (("min", min), ("max", max)):
        told = [each.options[limit] for each in having if limit in each.options]
        options.pop(limit, None)
        if len(told) == len(having):
            options[limit] = widest(told)
    one = replace(
        base,
        options=options,
        has_options=any(each.has_options for each in having),
        any_type=any(each.any_type for each in having) or not _are_alike(having),
    )
    if one.folder or one.upload:
        return replace(one, first=_union(each.first for each in having), last=_union(each.last for each in having))
    if one.choices is None:
        return one
    return one.with_choices(_union(each.choices or () for each in having))


def _are_alike(having: Sequence[InputSpec]) -> bool:
    """Whether they are of one type; combo boxes are, whatever they offer."""
    types = [None if each.is_box else each.type for each in having]
    return all(each == types[0] for each in types)


def _outputs(given: Sequence[tuple[OutputSpec, ...]]) -> tuple[OutputSpec, ...]:
    """As many as the one with the most has. Where types differ, links of any type may leave."""
    longest: tuple[OutputSpec, ...] = max(given, key=len)
    found = []
    for slot, output in enumerate(longest):
        others = [outputs[slot] for outputs in given if slot < len(outputs)]
        mixed = any(each.any_type or each.type != output.type for each in others)
        found.append(replace(output, any_type=mixed))
    return tuple(found)


def _union(given: Iterable[Iterable[Any]]) -> tuple[Any, ...]:
    """All of them once, in order of appearance; they need not be hashable."""
    found: dict[str, Any] = {}
    for values in given:
        for value in values:
            found.setdefault(f"{type(value).__name__} {value!r}", value)
    return tuple(found.values())
