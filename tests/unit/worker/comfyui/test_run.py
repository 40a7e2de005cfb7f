"""What of a workflow is sent to the instance."""

from __future__ import annotations

from typing import Any

from limner.graph.spec import NodeSpec
from limner.worker.engines.comfyui.run import only_wanted

SPECS = {
    name: NodeSpec(name=name, display_name=None, category="", output_node=name in ("Save", "Show"))
    for name in ("Make", "Turn", "Save", "Show")
}


def box(class_type: str, *links: str) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": {f"in{n}": [node, 0] for n, node in enumerate(links)}}


def test_a_workflow_of_which_all_is_wanted_stays_as_it_is() -> None:
    workflow = {"1": box("Make"), "2": box("Save", "1"), "3": box("Show", "1")}
    assert only_wanted(workflow, ["2", "3"], SPECS) == workflow
    assert only_wanted(workflow, [], SPECS) == workflow
    assert only_wanted(workflow, ["9"], SPECS) == workflow


def test_outputs_that_nobody_wants_are_left_out_and_nothing_else() -> None:
    workflow = {"1": box("Make"), "2": box("Save", "1"), "3": box("Show", "1"), "4": box("Turn", "1")}
    assert list(only_wanted(workflow, ["2"], SPECS)) == ["1", "2", "4"]


def test_an_output_that_a_wanted_one_needs_stays() -> None:
    workflow = {"1": box("Make"), "2": box("Show", "1"), "3": box("Save", "2"), "4": box("Show", "3")}
    assert list(only_wanted(workflow, ["3"], SPECS)) == ["1", "2", "3"]


def test_odd_workflows_and_circles_are_the_instances_to_judge() -> None:
    workflow: dict[str, Any] = {
        "1": {"class_type": "Make"},
        "2": {"inputs": None},
        "3": box("Turn", "4"),
        "4": box("Save", "3", "gone"),
        "5": box("Unknown", "4"),
    }
    assert only_wanted(workflow, ["4"], SPECS) == workflow
