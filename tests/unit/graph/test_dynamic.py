import json
from typing import Annotated, Any

import pytest

from limner.errors import WorkflowInvalid
from limner.graph.catalogue import Catalogue
from limner.graph.dynamic import behind
from limner.graph.node import kind_of, node
from limner.graph.spec import OutputSpec
from limner.graph.types import MATCHING, Choices, Flag, Follows, Grows, Int, Matches, Socket, Text
from limner.graph.validate import Validated, validate

BRANCH = Annotated[Any, Matches("t", optional=True)]


@node("Number", category="t", outputs={"INT": "INT"})
def number(*, value: Annotated[int, Int()] = 0) -> None:
    """A number."""


@node("Words", category="t", outputs={"STRING": "STRING"})
def words(*, value: Annotated[str, Text()] = "") -> None:
    """A text."""


@node("Switch", category="t", schema_style=True, outputs=(OutputSpec(name="o", type=MATCHING, any_type=True),))
def switch(*, on: Annotated[bool, Flag()], a: BRANCH = None, b: BRANCH = None) -> None:
    """A switch."""


@node("Same", category="t", schema_style=True, outputs=(OutputSpec(name="o", type=MATCHING, any_type=True),))
def same(*, a: Annotated[Any, Matches("t", allowed="IMAGE,STRING")]) -> None:
    """Takes two types."""


@node("Sum", category="t", schema_style=True, outputs=(), output_node=True)
def add(**values: Annotated[Any, Grows(Socket("INT,FLOAT"), names="abc", least=2)]) -> None:
    """Any number of numbers."""


@node("Many", category="t", schema_style=True, outputs=(), output_node=True)
def many(**items: Annotated[Any, Grows(Int(0, 9), prefix="item", least=1, most=3)]) -> None:
    """Typed numbers."""


WAYS = Follows({
    "width": {"width": Int(1, 100), "crop": Choices("center", "none")},
    "match": {"other": Socket("STRING")},
    "deep": {"mode": Follows({"x": {"n": Int(0, 5)}, "y": {}})},
})  # fmt: skip


@node("Resize", category="t", schema_style=True, outputs=(), output_node=True)
def resize(*, way: Annotated[str, WAYS], **given: Any) -> None:
    """Follows a choice."""


@node("WantsInt", category="t", outputs=(), output_node=True)
def wants_int(*, value: Annotated[int, Int(0, 9)]) -> None:
    """Takes a number."""


KINDS = {
    kind_of(each).spec.name: kind_of(each).spec for each in (number, words, switch, same, add, many, resize, wants_int)
}
CATALOGUE = Catalogue.from_json(json.loads(json.dumps(Catalogue(nodes=KINDS, models={}).to_json())))


def checked(inputs: dict[str, Any], kind: str, **more: dict[str, Any]) -> Validated:
    others = {
        "n": {"class_type": "Number", "inputs": {"value": 1}},
        "w": {"class_type": "Words", "inputs": {"value": "a"}},
    }
    return validate({"1": {"class_type": kind, "inputs": inputs}, **others, **more}, CATALOGUE)


def fault(inputs: dict[str, Any], kind: str, **more: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(WorkflowInvalid) as refused:
        checked(inputs, kind, **more)
    (found,) = refused.value.node_errors["1"]["errors"]
    return found["type"], found["extra_info"]["input_name"]


def a_switch(**inputs: Any) -> dict[str, Any]:
    return {"class_type": "Switch", "inputs": {"on": True, **inputs}}


def test_growing_inputs_are_taken_with_their_type() -> None:
    assert checked({"values.a": ["n", 0], "values.b": ["n", 0]}, "Sum").outputs == ("1",)
    assert fault({"values.a": ["n", 0], "values.b": ["w", 0]}, "Sum") == ("return_type_mismatch", "values.b")


def test_the_first_growing_inputs_are_required() -> None:
    assert fault({"values.a": ["n", 0]}, "Sum") == ("required_input_missing", "values.b")


def test_literals_of_growing_inputs_are_converted_and_held_to_their_limits() -> None:
    assert checked({"items.item0": "4"}, "Many").workflow["1"]["inputs"] == {"items.item0": 4}
    assert fault({"items.item0": 1, "items.item2": 10}, "Many") == ("value_bigger_than_max", "items.item2")


def test_a_choice_brings_inputs_that_are_required_converted_and_checked() -> None:
    given = {"way": "width", "way.width": "7", "way.crop": "none"}
    assert checked(given, "Resize").workflow["1"]["inputs"]["way.width"] == 7
    assert fault({"way": "width", "way.crop": "none"}, "Resize") == ("required_input_missing", "way.width")
    assert fault({**given, "way.crop": "left"}, "Resize") == ("value_not_in_list", "way.crop")
    assert fault({**given, "way.width": 101}, "Resize") == ("value_bigger_than_max", "way.width")
    assert fault({"way": "match", "way.other": ["n", 0]}, "Resize") == ("return_type_mismatch", "way.other")


def test_inputs_of_another_choice_are_not_looked_at() -> None:
    assert checked({"way": "match", "way.other": ["w", 0], "way.width": 1000}, "Resize").outputs == ("1",)


def test_a_choice_must_be_made_among_those_offered() -> None:
    assert fault({}, "Resize") == ("required_input_missing", "way")
    assert fault({"way": "height"}, "Resize") == ("value_not_in_list", "way")


def test_choices_within_choices_bring_their_inputs() -> None:
    assert checked({"way": "deep", "way.mode": "x", "way.mode.n": 5}, "Resize").outputs == ("1",)
    assert fault({"way": "deep", "way.mode": "x", "way.mode.n": 6}, "Resize") == (
        "value_bigger_than_max",
        "way.mode.n",
    )
    assert fault({"way": "deep"}, "Resize") == ("required_input_missing", "way.mode")


def test_a_switch_gives_the_type_of_what_it_switches() -> None:
    wants = {"value": ["s", 0]}
    assert checked(wants, "WantsInt", s=a_switch(a=["n", 0])).outputs == ("1",)
    assert fault(wants, "WantsInt", s=a_switch(a=["w", 0])) == ("return_type_mismatch", "value")
    assert checked(wants, "WantsInt", s=a_switch(a=["w", 0], b=["n", 0])).outputs == ("1",)
    assert checked(wants, "WantsInt", s=a_switch()).outputs == ("1",)


def test_switches_in_a_row_pass_the_type_on() -> None:
    row = {f"s{number}": a_switch(a=[f"s{number + 1}", 0]) for number in range(3000)}
    assert fault({"value": ["s0", 0]}, "WantsInt", **row, s3000=a_switch(b=["w", 0])) == (
        "return_type_mismatch",
        "value",
    )
    assert checked({"value": ["s0", 0]}, "WantsInt", **row, s3000=a_switch(b=["n", 0])).outputs == ("1",)


def test_switches_in_a_circle_are_refused_and_looked_at_once() -> None:
    with pytest.raises(WorkflowInvalid, match="circle"):
        checked({"value": ["s", 0]}, "WantsInt", s=a_switch(a=["t", 0]), t=a_switch(a=["s", 0]))


def test_a_template_may_allow_some_types_alone() -> None:
    def taking(source: str) -> dict[str, Any]:
        return {"class_type": "Same", "inputs": {"a": [source, 0]}}

    assert fault({"value": ["s", 0]}, "WantsInt", s=taking("w")) == ("return_type_mismatch", "value")
    with pytest.raises(WorkflowInvalid) as refused:
        checked({"value": ["s", 0]}, "WantsInt", s=taking("n"))
    assert refused.value.node_errors["s"]["errors"][0]["type"] == "return_type_mismatch"


@pytest.mark.parametrize("broken", ["text", [1], {"": {}}, {"required": {"a": "INT"}}, {"required": {"a": []}}, None])
def test_a_catalogue_may_hold_anything_in_their_place(broken: Any) -> None:
    info = KINDS["Many"].to_json()
    info["input"]["required"]["items"][1]["template"]["input"] = broken
    names = [each.name for each in behind(type(KINDS["Many"]).from_json(info), {})]
    assert names in ([], ["items.item0", "items.item1", "items.item2"])
