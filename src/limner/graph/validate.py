"""Every fault of a workflow at once, told as ComfyUI tells them; literals come out converted.

Linear in the size of the workflow, without recursion; whatever the JSON, it ends in WorkflowInvalid or in Validated.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from limner.errors import WorkflowInvalid
from limner.graph.catalogue import Catalogue
from limner.graph.findings import Finding, settle
from limner.graph.plan import feeders_first
from limner.graph.walk import CustomCheck, Walk
from limner.graph.workflow import check_shape, holds_infinity, unknown_class

LISTED_DEPENDENTS = 64
"""Of this many failed outputs, a faulty node says which depend on it: the answer must not grow with the square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """A workflow that can run, at least in part."""

    workflow: dict[str, Any]  # the API format, literals converted
    outputs: tuple[str, ...]  # the wanted output nodes without fault, in the workflow's order
    node_errors: dict[str, Any]  # the faults of the outputs that were dropped
    file_references: tuple[str, ...]  # input files that the run reads, as the workflow names them
    models: tuple[str, ...]  # base weights that the run names


def validate(
    prompt: Any,
    catalogue: Catalogue,
    *,
    input_files: Collection[str] = (),
    targets: Sequence[Any] | None = None,
    custom_check: CustomCheck | None = None,
) -> Validated:
    """Checks a workflow in the API format. `targets` narrows the outputs.

    input_files: those of the tenant's that are there, as workflows name them (`a.png`, `b.png [output]`).
    Without `custom_check` the checks that only a node's own code can make are left to the run. Of foreign classes
    nothing is refused that their own server would take, but for files that are not the tenant's.
    Raises WorkflowInvalid (WorkflowIsEditorFormat) where no wanted output can run.
    """
    check_shape(prompt)
    specs = catalogue.filled
    for node_id, node in prompt.items():
        if node["class_type"] not in specs:
            raise unknown_class(node["class_type"], node_id)
    wanted = None if targets is None else {each for each in targets if isinstance(each, str)}
    outputs = [
        node_id
        for node_id, node in prompt.items()
        if specs[node["class_type"]].output_node and (wanted is None or node_id in wanted)
    ]
    if not outputs:
        raise WorkflowInvalid("prompt_no_outputs", "Prompt has no outputs")
    walk = Walk(prompt, catalogue, frozenset(input_files), custom_check)
    for output in outputs:
        walk.visit(output)
    settle(walk.found)
    return _judge(walk, outputs)


def _judge(walk: Walk, outputs: list[str]) -> Validated:
    good = [output for output in outputs if walk.found[output].sound]
    bad = [output for output in outputs if not walk.found[output].sound]
    node_errors = _node_errors(walk, bad)
    if not good:
        lines = [f"{fault['message']}: {fault['details']}" for output in bad for fault in walk.found[output].faults]
        message = "Prompt outputs failed validation"
        hint = "" if node_errors else f"{message}: its nodes feed each other in a circle"
        raise WorkflowInvalid("prompt_outputs_failed_validation", message, "\n".join(lines), node_errors, hint=hint)
    workflow = {node_id: _converted(node, walk.found.get(node_id)) for node_id, node in walk.prompt.items()}
    for node_id, node in workflow.items():
        if holds_infinity(node):
            message = "Cannot execute because a node holds a number that is not finite."
            raise WorkflowInvalid("invalid_prompt", message, f"Node ID '#{node_id}'", node_errors)
    running = [walk.found[each] for each in feeders_first(good, lambda each: _sources(walk.found[each]))]
    return Validated(
        workflow=workflow,
        outputs=tuple(good),
        node_errors=node_errors,
        file_references=tuple(dict.fromkeys(name for each in running for name in each.files)),
        models=tuple(dict.fromkeys(name for each in running for name in each.models)),
    )


def _node_errors(walk: Walk, bad: list[str]) -> dict[str, Any]:
    """The nodes with faults of their own, and which failed outputs each spoils."""
    listed = bad[:LISTED_DEPENDENTS]
    counting = feeders_first(bad, lambda each: walk.found[each].spoilers(walk.found))
    spoils = dict.fromkeys(counting, 0)  # bit n: the n-th failed output depends on the node
    spoils.update({output: 1 << position for position, output in enumerate(listed)})
    for node_id in reversed(counting):
        for source in walk.found[node_id].spoilers(walk.found):
            spoils[source] |= spoils[node_id]
    return {
        node_id: {
            "errors": walk.found[node_id].faults,
            "dependent_outputs": [output for position, output in enumerate(listed) if spoils[node_id] >> position & 1],
            "class_type": walk.found[node_id].spec.name,
        }
        for node_id in walk.finished
        if node_id in spoils and walk.found[node_id].faults
    }


def _sources(finding: Finding) -> list[str]:
    return [each.source for each in finding.feeds]


def _converted(node: dict[str, Any], finding: Finding | None) -> dict[str, Any]:
    inputs = node.get("inputs")
    if not isinstance(inputs, dict):  # no run needs this node
        return {**node, "inputs": {}}
    if finding is None or not finding.changed:
        return node
    return {**node, "inputs": {**inputs, **finding.changed}}
