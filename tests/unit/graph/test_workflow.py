"""Workflow: the API format in and out, and what is no workflow."""

from __future__ import annotations

from typing import Any

import pytest

from limner.errors import WorkflowInvalid, WorkflowIsEditorFormat
from limner.graph.workflow import Link, Workflow, as_link
from tests.support.recordings import prompts, recording


@pytest.mark.parametrize("name", ["01", "11", "60"])
def test_nothing_is_lost_on_the_way_in_and_out(name: str) -> None:
    for body in prompts(recording(name)):
        assert Workflow.parse(body["prompt"]).to_json() == body["prompt"]


def test_links_and_literals_are_told_apart() -> None:
    inputs = {"image": ["1", 0], "width": 8, "list": {"__value__": ["1", 0]}, "bad": ["1", 0.0]}
    node = Workflow.parse({"2": {"class_type": "X", "inputs": inputs, "_meta": {"title": "Mine"}}}).nodes["2"]
    assert list(node.links()) == [("image", Link("1", 0))]
    assert node.literals() == {"width": 8, "list": ["1", 0], "bad": ["1", 0.0]}
    assert node.title == "Mine"


@pytest.mark.parametrize("value", [["1"], ["1", 0, 0], [1, 0], ["1", True], ["1", "0"], ("1", 0), None, "1"])
def test_only_an_id_with_a_slot_is_a_link(value: Any) -> None:
    assert as_link(value) is None


@pytest.mark.parametrize(
    ("raw", "kind", "message"),
    [
        (None, "no_prompt", "No prompt provided"),
        ([], "prompt_no_outputs", "Prompt has no outputs"),
        ([1], "invalid_prompt", "must be an object of nodes by id.: It is a list."),
        (7, "invalid_prompt", "It is a number."),
        ({"1": "x"}, "invalid_prompt", "missing the class_type property.: Node ID '#1'"),
        ({"1": {"class_type": None}}, "invalid_prompt", "node None does not exist.: Node ID '#1'"),
        ({"1": {"class_type": "X", "inputs": [1]}}, "invalid_prompt", "inputs of a node must be an object"),
        ({"\ud800": {"class_type": "X"}}, "invalid_prompt", "not valid Unicode.: Node ID '#?'"),
    ],
)
def test_what_is_no_graph_of_nodes_is_refused(raw: Any, kind: str, message: str) -> None:
    with pytest.raises(WorkflowInvalid) as refused:
        Workflow.parse(raw)
    assert refused.value.kind == kind
    assert message in refused.value.message


@pytest.mark.parametrize("raw", [{"nodes": [], "links": []}, {"nodes": [{"id": 1}], "last_node_id": 1}])
def test_the_editors_save_format_is_known(raw: Any) -> None:
    with pytest.raises(WorkflowIsEditorFormat, match="Export the workflow in the API format"):
        Workflow.parse(raw)


def test_a_node_may_be_called_nodes() -> None:
    assert list(Workflow.parse({"nodes": {"class_type": "X", "inputs": {}}}).nodes) == ["nodes"]
