"""Nodes newer than the recording, held to what is told of them: tests/data/newer_nodes.json."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from limner.graph.dynamic import behind, taken_type
from limner.graph.spec import InputSpec, NodeSpec
from limner.graph.types import FOLLOWING, GROWING, MATCHING
from limner.nodes import library

TOLD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data/newer_nodes.json").read_text(encoding="utf-8"))
LIBRARY = library.load()
NAMED_OTHERWISE = {"IMAGECOMPARE", "RESOLUTION_PREVIEW"}
"""What the editor draws, and no value."""


def all_inputs(spec: NodeSpec) -> dict[str, list[InputSpec]]:
    """Every input that a node may have, by the last part of its name: those of each choice too."""
    found: dict[str, list[InputSpec]] = {}
    waiting: list[tuple[dict[str, Any], list[InputSpec]]] = [({}, list(spec.inputs))]
    seen = set()
    while waiting:
        given, inputs = waiting.pop()
        for each in inputs:
            found.setdefault(each.name.rpartition(".")[2], []).append(each)
            found.setdefault(each.name, []).append(each)
            for choice in each.choices or () if each.type == FOLLOWING else ():
                if (each.name, choice) not in seen:
                    seen.add((each.name, choice))
                    chosen = {**given, each.name: choice}
                    waiting.append((chosen, [one for one in behind(spec, chosen) if one.name.startswith(each.name)]))
        if not given:
            waiting.append(({"": ""}, list(behind(spec, {}))))
    return found


def kinds(type_: Any) -> set[str]:
    return set(re.split(r"\s*(?:,|\bor\b)\s*", str(type_)))


@pytest.mark.parametrize("name", TOLD)
def test_it_has_every_input_that_is_told_with_its_type(name: str) -> None:
    spec = LIBRARY[name].spec
    ours = all_inputs(spec)
    for input_name, told in TOLD[name]["documented_inputs"].items():
        assert input_name in ours, input_name
        types = {kind for each in ours[input_name] for kind in kinds(taken_type(each))}
        if told["type"] == "MATCH_TYPE":
            assert {each.type for each in ours[input_name]} == {MATCHING}
        elif {each.type for each in ours[input_name]} == {GROWING}:
            assert kinds(told["type"]) == {
                kind for each in behind(spec, {}) if each.name.startswith(f"{input_name}.") for kind in kinds(each.type)
            }
        elif told["type"] == "DYNAMIC_COMBO" or FOLLOWING in types:
            assert types == {FOLLOWING}
        else:
            assert types == kinds(told["type"]) or types <= NAMED_OTHERWISE, input_name


@pytest.mark.parametrize("name", TOLD)
def test_it_takes_every_input_that_templates_use(name: str) -> None:
    ours = all_inputs(LIBRARY[name].spec)
    for input_name, told in TOLD[name]["inputs"].items():
        assert input_name in ours, input_name
        taken = {kind for each in ours[input_name] for kind in kinds(taken_type(each))}
        assert taken == {"*"} or taken == kinds(told["type"]) or FOLLOWING in taken, input_name


@pytest.mark.parametrize("name", TOLD)
def test_it_has_the_outputs_that_templates_use(name: str) -> None:
    outputs = LIBRARY[name].spec.outputs
    for output_name, told in TOLD[name]["outputs"].items():
        output = outputs[told["slot"]]
        assert output.name == output_name
        assert output.type in (told["type"], MATCHING)


@pytest.mark.parametrize("name", TOLD)
def test_its_limits_are_those_that_are_told(name: str) -> None:
    ours = all_inputs(LIBRARY[name].spec)
    for input_name, told in TOLD[name]["documented_inputs"].items():
        limits = re.match(r"(-?[\d.e]+) (?:to|-) (-?[\d.e]+)(?: |$)", told.get("range") or "")
        for each in ours[input_name] if limits and each_is_number(told) else ():
            assert limits is not None
            assert (each.options["min"], each.options["max"]) == (number(limits[1]), number(limits[2])), input_name


def each_is_number(told: dict[str, Any]) -> bool:
    return told["type"] in ("INT", "FLOAT")


def number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)
