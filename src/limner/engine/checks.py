"""What only a node's own code can say of its inputs, asked before anything runs.

The gateway checks workflows by data alone and leaves this to the engine, which has the code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limner.engine.failure import Failure, by_hand
from limner.engine.wiring import Wiring
from limner.errors import Interrupted, WorkflowRefused
from limner.graph import faults
from limner.graph.faults import Fault
from limner.graph.kinds import NodeType
from limner.graph.plan import feeders_first
from limner.graph.spec import InputSpec, NodeSpec, undeclared
from limner.graph.types import ANY
from limner.graph.workflow import Node

LISTED_DEPENDENTS = 64
"""Of this many dropped outputs, a faulty node says which depend on it."""

Ask = Callable[[Node, NodeType, dict[str, Any], dict[str, Any]], bool | str]
"""Asks a class's own code: (node, class, inputs with None for links, types of what is linked)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which outputs may run, and what is wrong with the rest, worded as ComfyUI words it."""

    outputs: tuple[str, ...]
    node_errors: dict[str, Any]

    def refusal(self) -> dict[str, Any]:
        """What ComfyUI answers where no output is left."""
        lines = [_line(fault) for told in self.node_errors.values() for fault in told["errors"]]
        error = {
            "type": "prompt_outputs_failed_validation",
            "message": "Prompt outputs failed validation",
            "details": "\n".join(lines),
            "extra_info": {},
        }
        return {"error": error, "node_errors": self.node_errors}

    def failure(self) -> Failure:
        error = self.refusal()["error"]
        return Failure(
            exception_type=WorkflowRefused.__name__,
            exception_message=f"{error['message']}: {error['details']}\n",
            traceback=(),
            code=WorkflowRefused.code,
            retryable=WorkflowRefused.retryable,
        )

    def warnings(self) -> dict[str, str]:
        """What to say at each faulty node where the rest of the workflow runs."""
        return {
            node_id: f"{'; '.join(map(_line, told['errors']))}. Left out: output {', '.join(told['dependent_outputs'])}"
            for node_id, told in self.node_errors.items()
        }


def check(
    nodes: Mapping[str, Node],
    outputs: Sequence[str],
    library: Mapping[str, NodeType],
    wiring_of: Callable[[Node], Wiring],
    ask: Ask,
) -> Verdict:
    """Asks every class with a validator that the wanted outputs need; an output with a refused node behind it is out.

    Whatever a validator raises counts as a fault of its node, but for Ctrl-C and Interrupted.
    """

    if not any(_has_validator(library.get(node.class_type)) for node in nodes.values()):
        return Verdict(outputs=tuple(outputs), node_errors={})

    def sources(node_id: str) -> list[str]:
        return [source for source in wiring_of(nodes[node_id]).sources() if source in nodes]

    users: dict[str, tuple[InputSpec, list[Any]]] = {}  # the first link to each node
    found: dict[str, list[Fault]] = {}
    spoiled: set[str] = set()
    order = feeders_first(outputs, sources)
    for node_id in order:
        kind = library.get(nodes[node_id].class_type)
        for name, link in wiring_of(nodes[node_id]).links.items():
            users.setdefault(link.node_id, (_input(kind, name), list(link)))
    for node_id in order:
        node = nodes[node_id]
        kind = library.get(node.class_type)
        if kind is not None and kind.spec.validator is not None:
            told = _faults(node, kind, nodes, library, wiring_of(node), users.get(node_id), ask)
            if told:
                found[node_id] = told
        if node_id in found or not spoiled.isdisjoint(sources(node_id)):
            spoiled.add(node_id)
    out = [output for output in outputs if output in spoiled]
    behind = {output: set(feeders_first([output], sources)) for output in out[:LISTED_DEPENDENTS]} if found else {}
    return Verdict(
        outputs=tuple(output for output in outputs if output not in spoiled),
        node_errors={
            node_id: {
                "errors": told,
                "dependent_outputs": [output for output, nodes_behind in behind.items() if node_id in nodes_behind],
                "class_type": nodes[node_id].class_type,
            }
            for node_id, told in found.items()
        },
    )


def _has_validator(kind: NodeType | None) -> bool:
    return kind is not None and kind.spec.validator is not None


def _faults(
    node: Node,
    kind: NodeType,
    nodes: Mapping[str, Node],
    library: Mapping[str, NodeType],
    wiring: Wiring,
    user: tuple[InputSpec, list[Any]] | None,
    ask: Ask,
) -> list[Fault]:
    validator = kind.spec.validator
    assert validator is not None
    asked = [name for name in wiring.order if validator.all_inputs or name in validator.inputs]
    literals = {name: wiring.literals.get(name) for name in asked}
    types = {
        name: _output_type(library.get(nodes[link.node_id].class_type), link.slot)
        for name, link in wiring.links.items()
        if link.node_id in nodes
    }
    try:
        verdict = ask(node, kind, literals, types)
    except Interrupted:
        raise
    except BaseException as raised:
        if by_hand(raised):
            raise
        name = type(raised).__name__
        if user is None:
            return [faults.exception_during_validation(name, str(raised))]
        return [faults.exception_during_inner_validation(name, str(raised), *user)]
    if verdict is True:
        return []
    reason = verdict if isinstance(verdict, str) else None
    return [
        faults.custom_validation_failed(name, reason)
        for name in [*asked, *(["input_types"] if validator.types else [])]
    ]


def _input(kind: NodeType | None, name: str) -> InputSpec:
    return (kind.input(name) if kind is not None else None) or undeclared(name)


def _output_type(kind: NodeType | None, slot: int) -> Any:
    spec: NodeSpec | None = kind.spec if kind is not None else None
    return spec.outputs[slot].type if spec is not None and 0 <= slot < len(spec.outputs) else ANY


def _line(fault: Fault) -> str:
    return f"{fault['message']}: {fault['details']}"
