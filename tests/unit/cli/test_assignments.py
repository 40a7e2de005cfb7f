"""`--set`: values read by the type of their input, faults told with what there is."""

from __future__ import annotations

from typing import Any

import pytest

from limner.cli.assignments import BadSetting, apply
from limner.graph.catalogue import Catalogue

GRAPH: dict[str, Any] = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a", "clip": ["4", 1]}},
}


def info_of(name: str) -> dict[str, Any] | None:
    catalogue = Catalogue.core()
    return catalogue.node_info(name) if name in catalogue.nodes else None


def changed(setting: str) -> Any:
    where = setting.split("=")[0]
    node, name = where.split(".")
    return apply(GRAPH, [setting], info_of)[node]["inputs"][name]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("6.text=a red apple", "a red apple"),
        ("6.text=1+1=2", "1+1=2"),
        ("6.text=", ""),
        ("3.seed=18446744073709551615", 2**64 - 1),
        ("3.cfg=7.5", 7.5),
        ("3.steps=30", 30),
        ("3.sampler_name=euler", "euler"),
    ],
)
def test_values_are_read_by_the_type_of_their_input(setting: str, value: Any) -> None:
    assert changed(setting) == value
    assert type(changed(setting)) is type(value)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("6.text", "write it as NODE.INPUT=VALUE"),
        ("text=x", "write it as NODE.INPUT=VALUE"),
        ("9.text=x", r"no node '9'; the nodes are 3 \(KSampler\), 6 \(CLIPTextEncode\)"),
        ("6.txt=x", "CLIPTextEncode has no input 'txt'; its inputs are text, clip"),
        ("3.steps=many", "'many' is not a whole number"),
        ("3.cfg=high", "'high' is not a number"),
        ("3.sampler_name=magic", "not among euler"),
        ("3.model=x", "takes a MODEL from another node"),
    ],
)
def test_a_fault_is_told_with_what_there_is(setting: str, told: str) -> None:
    with pytest.raises(BadSetting, match=told):
        apply(GRAPH, [setting], info_of)


def test_the_workflow_that_was_read_stays_as_it_is() -> None:
    apply(GRAPH, ["6.text=b"], info_of)
    assert GRAPH["6"]["inputs"]["text"] == "a"


def test_a_class_that_nobody_knows_takes_text() -> None:
    graph = {"1": {"class_type": "Unknown", "inputs": {}}}
    assert apply(graph, ["1.x=5"], info_of)["1"]["inputs"] == {"x": "5"}
