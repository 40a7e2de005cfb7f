"""Inputs that stand for others: growing ones, and those that a choice brings. Read from what /object_info shows.

values: growing, slots a, b, ...      -> values.a, values.b
resize_type: "scale width"            -> resize_type.width
format: "avif", save_mode: "animated" -> format.save_mode, format.save_mode.fps
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from limner.graph.spec import InputSpec, NodeSpec, OutputSpec
from limner.graph.types import ANY, FOLLOWING, GROWING, MATCHING, InputType, is_dynamic, joins
from limner.graph.workflow import as_link, unwrapped

MOST_SLOTS = 100
"""Slots of growing inputs that do not tell how many they are at most."""

DEEPEST = 8
"""Levels of inputs within inputs that are looked at."""


def behind(node: NodeSpec, given: Mapping[str, Any]) -> Iterator[InputSpec]:
    """The inputs that a node's dynamic ones stand for, where the workflow gives it these."""
    for each in node.input.values():
        yield from _behind(each, given, DEEPEST)


def taken_type(spec: InputSpec) -> InputType:
    """What may feed an input: of one that matches others, the types that its template allows."""
    if spec.type != MATCHING:
        return spec.type
    allowed = _object(spec.options.get("template")).get("allowed_types")
    return allowed if isinstance(allowed, str) else ANY


class OutputTypes:
    """What the outputs of a workflow's nodes give; that of a switch is the type of what it switches between.

    What a foreign switch gives is left to its own server. Linear in the workflow, without recursion: each output is
    looked at once.
    """

    def __init__(self, prompt: Mapping[str, Any], specs: Mapping[str, NodeSpec]) -> None:
        self._prompt = prompt
        self._specs = specs
        self._known: dict[tuple[str, int], OutputSpec] = {}

    def of(self, node_id: str, slot: int) -> OutputSpec:
        """The output with its type; both that and the node must be there. A circle of switches gives any type."""
        start = (node_id, slot)
        stack, entered = [start], {start}
        while stack:
            here = stack[-1]
            if here in self._known:
                stack.pop()
                continue
            spec = self._specs[self._prompt[here[0]]["class_type"]]
            output = spec.outputs[here[1]]
            sources = self._sources(here[0]) if output.type == MATCHING and not spec.foreign else []
            unknown = [each for each in sources if each not in self._known and each not in entered]
            if unknown:
                entered.update(unknown)
                stack.extend(unknown)
                continue
            given = [self._known[each] for each in sources if each in self._known]
            self._known[here] = _joined(output, given, _allowed(spec))
            stack.pop()
        return self._known[start]

    def _sources(self, node_id: str) -> list[tuple[str, int]]:
        node = self._prompt[node_id]
        inputs = node.get("inputs")
        if not isinstance(inputs, dict):
            return []
        spec = self._specs[node["class_type"]]
        links = [as_link(inputs.get(each.name)) for each in spec.input.values() if each.type == MATCHING]
        return [
            (each.node_id, each.slot)
            for each in links
            if each is not None
            and each.node_id in self._prompt
            and 0 <= each.slot < len(self._specs[self._prompt[each.node_id]["class_type"]].outputs)
        ]


def _allowed(spec: NodeSpec) -> InputType:
    return next((taken_type(each) for each in spec.input.values() if each.type == MATCHING), ANY)


def _joined(output: OutputSpec, sources: list[OutputSpec], allowed: InputType) -> OutputSpec:
    """The output with the types that come in. One that is not allowed is a fault already, and says nothing here."""
    if any(each.any_type for each in sources):
        return output
    types = [each.type for each in sources if allowed == ANY or joins(each.type, allowed)]
    if not types:
        return output
    if all(each == types[0] for each in types):
        return OutputSpec(name=output.name, type=types[0], is_list=output.is_list)
    if all(isinstance(each, str) for each in types):
        return OutputSpec(name=output.name, type=",".join(dict.fromkeys(map(str, types))), is_list=output.is_list)
    return output


def _behind(each: InputSpec, given: Mapping[str, Any], depth: int) -> Iterator[InputSpec]:
    if not depth:
        return
    found = _grown(each) if each.type == GROWING else _following(each, given) if each.type == FOLLOWING else ()
    for spec in found:
        yield spec
        yield from _behind(spec, given, depth - 1)


def _grown(each: InputSpec) -> Iterator[InputSpec]:
    template = _object(each.options.get("template"))
    names = template.get("names")
    if not isinstance(names, list):
        most = template.get("max")
        prefix = str(template.get("prefix", ""))
        names = [f"{prefix}{number}" for number in range(most if type(most) is int else MOST_SLOTS)]
    least = template.get("min")
    sections = _object(template.get("input"))
    shown = [spec for kind in ("required", "optional") for spec in _object(sections.get(kind)).values()]
    for number, name in enumerate(names):
        required = "required" in sections and number < (least if type(least) is int else 1)
        if shown:
            yield _read(f"{each.name}.{name}", shown[0], "required" if required else "optional")


def _following(each: InputSpec, given: Mapping[str, Any]) -> Iterator[InputSpec]:
    choice = unwrapped(given.get(each.name))
    offered = each.options.get("options")
    for option in offered if isinstance(offered, list) else ():
        if _object(option).get("key") == choice:
            sections = _object(option.get("inputs"))
            for kind in ("required", "optional"):
                for name, shown in _object(sections.get(kind)).items():
                    yield _read(f"{each.name}.{name}", shown, kind)


def _read(name: str, shown: Any, kind: str) -> InputSpec:
    """An input within another one: `[type, options]`."""
    type_ = shown[0] if isinstance(shown, list | tuple) and shown else ANY
    options = _object(shown[1]) if isinstance(shown, list | tuple) and len(shown) > 1 else {}
    any_type = type_ == ANY or is_dynamic(type_)
    return InputSpec(name=name, type=type_, options=options, kind=kind, has_options=True, any_type=any_type)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
