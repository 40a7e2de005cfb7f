"""Content keys: equal where results are equal, and only there."""

from __future__ import annotations

import math
from typing import Any

import pytest

from limner.graph.keys import content_keys
from limner.graph.spec import InputSpec, NodeSpec
from limner.graph.workflow import Node, Workflow

SPECS = {
    name: NodeSpec(
        name=name,
        display_name=name,
        category="toy",
        inputs=(InputSpec(name="a", type="*"), InputSpec(name="b", type="*"), *hidden),
        not_idempotent=name == "Dice",
    )
    for name, hidden in {
        "One": (),
        "Two": (),
        "Dice": (),
        "WhoAmI": (InputSpec(name="id", type="UNIQUE_ID", kind="hidden"),),
    }.items()
}


def keys(raw: dict[str, tuple[str, dict[str, Any]]], fingerprint: Any = None) -> dict[str, str]:
    workflow = Workflow.parse({name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in raw.items()})
    return content_keys(workflow, SPECS, fingerprint or (lambda node: None))


def test_ids_and_the_order_of_inputs_do_not_count() -> None:
    one = keys({"1": ("One", {"a": 1, "b": 2}), "2": ("Two", {"a": ["1", 0]})})
    other = keys({"y": ("Two", {"a": ["x", 0]}), "x": ("One", {"b": 2, "a": 1})})
    assert (one["1"], one["2"]) == (other["x"], other["y"])


@pytest.mark.parametrize(
    "changed",
    [
        {"1": ("One", {"a": 2}), "2": ("Two", {"a": ["1", 0]})},  # a value above
        {"1": ("Two", {"a": 1}), "2": ("Two", {"a": ["1", 0]})},  # a class above
        {"1": ("One", {"a": 1}), "2": ("Two", {"a": ["1", 1]})},  # another output
        {"1": ("One", {"a": 1}), "2": ("Two", {"b": ["1", 0]})},  # another input
        {"1": ("One", {"a": 1}), "2": ("Two", {"a": ["1", 0], "undeclared": 1})},
        {"1": ("One", {"a": 1.0}), "2": ("Two", {"a": ["1", 0]})},
        {"1": ("One", {"a": True}), "2": ("Two", {"a": ["1", 0]})},
        {"1": ("One", {"a": "1"}), "2": ("Two", {"a": ["1", 0]})},
    ],
)
def test_all_else_counts(changed: dict[str, tuple[str, dict[str, Any]]]) -> None:
    assert keys({"1": ("One", {"a": 1}), "2": ("Two", {"a": ["1", 0]})})["2"] != keys(changed)["2"]


@pytest.mark.parametrize("kind", ["WhoAmI", "Dice"])
def test_the_id_counts_where_the_class_says_so(kind: str) -> None:
    found = keys({"1": (kind, {}), "2": (kind, {}), "3": ("One", {"a": ["1", 0]}), "4": ("One", {"a": ["2", 0]})})
    assert len(set(found.values())) == 4
    assert found == keys(
        {"1": (kind, {}), "2": (kind, {}), "3": ("One", {"a": ["1", 0]}), "4": ("One", {"a": ["2", 0]})}
    )


@pytest.mark.parametrize(
    ("fingerprint", "comes_again"),
    [("same", True), (b"same", True), ({"x": [1, 2]}, True), (math.nan, False), ([math.nan], False), (object(), False)],
)
def test_a_fingerprint_counts_and_nan_never_comes_again(fingerprint: Any, comes_again: bool) -> None:
    def tell(node: Node) -> Any:
        return fingerprint

    raw = {"1": ("One", {}), "2": ("Two", {"a": ["1", 0]})}
    assert (keys(raw, tell)["2"] == keys(raw, tell)["2"]) is comes_again
    assert keys(raw, tell)["2"] != keys(raw)["2"]


@pytest.mark.parametrize(
    "raw",
    [
        {"1": ("One", {"a": ["2", 0]}), "2": ("One", {"a": ["1", 0]})},
        {"1": ("One", {"a": ["1", 0]})},
        {"1": ("One", {"a": ["9", 0]})},
        {"1": ("Unknown", {"a": ["2", 0]}), "2": ("One", {})},
    ],
)
def test_graphs_that_cannot_run_have_keys_too(raw: dict[str, tuple[str, dict[str, Any]]]) -> None:
    assert set(keys(raw)) == set(raw)


def test_a_long_chain_needs_no_deep_stack() -> None:
    raw = {str(number): ("One", {"a": [str(number - 1), 0]} if number else {}) for number in range(20_000)}
    assert len(set(keys(raw).values())) == 20_000
