"""Every fault of a workflow at once, told as ComfyUI tells them; literals come out converted.

Linear in the size of the workflow, without recursion; whatever the JSON, it ends in WorkflowInvalid or in Validated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from limner.errors import WorkflowInvalid
from limner.graph import faults
from limner.graph.catalogue import Catalogue
from limner.graph.faults import Fault
from limner.graph.literals import check_file, check_limits, convert, is_known, may_be_filename
from limner.graph.plan import feeders_first
from limner.graph.references import may_name_file
from limner.graph.spec import InputSpec, NodeSpec, OutputSpec, ValidatorSpec
from limner.graph.types import ANY, COMBO, is_box, is_dynamic, joins
from limner.graph.workflow import as_link, check_shape, holds_infinity, unknown_class, unwrapped

BASE_FOLDERS = frozenset({"checkpoints", "diffusion_models", "unet", "unet_gguf", "diffusers"})
"""Model folders whose files are whole networks: jobs that name the same ones are worth running on the same worker."""

LISTED_DEPENDENTS = 64
"""Of this many failed outputs, a faulty node says which depend on it: the answer must not grow with the square."""

CustomCheck = Callable[[str, dict[str, Any], dict[str, Any]], bool | str]
"""Asks a class's own validation code: (class, inputs with None for links, types of the links), to True or a reason."""


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
    walk = _Walk(prompt, catalogue, frozenset(input_files), custom_check)
    for output in outputs:
        walk.visit(output)
    return _judge(walk, outputs)


@dataclass(slots=True)
class _Finding:
    """What was found out about one node: its own faults, its links, and whether it and all that feeds it are sound."""

    spec: NodeSpec
    faults: list[Fault] = field(default_factory=list)
    exceptions: list[tuple[str, str]] = field(default_factory=list)  # (type, text): ComfyUI stumbles over these
    links: list[tuple[InputSpec, list[Any]]] = field(default_factory=list)
    changed: dict[str, Any] = field(default_factory=dict)  # converted literals
    files: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    sound: bool = False


class _Walk:
    """Goes from outputs to what feeds them, and finds what is wrong with each node on the way."""

    def __init__(
        self,
        prompt: dict[str, Any],
        catalogue: Catalogue,
        input_files: frozenset[str],
        custom_check: CustomCheck | None,
    ) -> None:
        self.prompt = prompt
        self.specs = catalogue.filled
        self.input_files = input_files
        self.custom_check = custom_check
        self.found: dict[str, _Finding] = {}
        self.finished: list[str] = []  # each after all that feeds it

    def visit(self, output: str) -> None:
        """Finds out about a node and all that feeds it, unless that is known already."""
        if output in self.found:
            return
        stack: list[_Step] = [self._step(output, None)]
        while stack:
            here = stack[-1]
            link = next(here.rest, None)
            if link is None:
                stack.pop()
                self._finish(here)
                if stack:
                    stack[-1].sound &= here.sound
            elif link[1][0] not in self.found:
                stack.append(self._step(link[1][0], link))
            else:
                here.sound &= self.found[link[1][0]].sound  # false while the node is still on the stack: a cycle

    def _step(self, node_id: str, used_by: tuple[InputSpec, list[Any]] | None) -> _Step:
        finding = self.found[node_id] = self._inspect(self.prompt[node_id])
        return _Step(node_id, used_by, iter(finding.links))

    def _finish(self, step: _Step) -> None:
        finding = self.found[step.node_id]
        for kind, reason in finding.exceptions:
            if step.used_by is None:
                finding.faults.append(faults.exception_during_validation(kind, reason))
            else:
                finding.faults.append(faults.exception_during_inner_validation(kind, reason, *step.used_by))
        finding.sound = step.sound = step.sound and not finding.faults
        self.finished.append(step.node_id)

    def _inspect(self, node: dict[str, Any]) -> _Finding:
        finding = _Finding(self.specs[node["class_type"]])
        inputs = node.get("inputs")
        if "inputs" not in node:
            finding.exceptions.append(("KeyError", "'inputs'"))
            return finding
        if not isinstance(inputs, dict):
            missing = [each for each in finding.spec.input.values() if each.kind == "required"]
            finding.faults.extend(faults.required_input_missing(each.name) for each in missing)
            if not missing:
                finding.exceptions.append(("TypeError", f"inputs must be an object, not '{type(inputs).__name__}'"))
            return finding
        for spec in self._expected(finding.spec, inputs):
            if spec.name not in inputs:
                if spec.kind == "required" and not is_dynamic(spec.type):
                    finding.faults.append(faults.required_input_missing(spec.name))
            elif isinstance(inputs[spec.name], list):
                self._inspect_link(finding, spec, inputs[spec.name])
            else:
                self._inspect_literal(finding, spec, inputs[spec.name])
        if finding.spec.validator is not None and self.custom_check is not None:
            self._inspect_by_its_own_code(finding, finding.spec.validator, inputs, self.custom_check)
        return finding

    def _inspect_link(self, finding: _Finding, spec: InputSpec, link: list[Any]) -> None:
        if len(link) != 2:
            finding.faults.append(faults.bad_linked_input(spec, link))
            return
        target, slot = link
        if not isinstance(target, str) or target not in self.prompt:
            finding.exceptions.append(_no_such_node(target))
            return
        source = self.specs[self.prompt[target]["class_type"]]
        sequence = "list" if source.schema_style else "tuple"
        if type(slot) is not int:
            reason = f"{sequence} indices must be integers or slices, not {type(slot).__name__}"
            finding.exceptions.append(("TypeError", reason))
            return
        if not source.lenient:  # what a pack gives may be longer than it says
            lowest = -len(source.outputs) if source.foreign else 0  # ComfyUI counts from the end
            if not lowest <= slot < len(source.outputs):
                finding.exceptions.append(("IndexError", f"{sequence} index out of range"))
                return
            self._inspect_types(finding, spec, source.outputs[slot], link)
        finding.links.append((spec, link))

    def _inspect_types(self, finding: _Finding, spec: InputSpec, output: OutputSpec, link: list[Any]) -> None:
        node = finding.spec
        if node.lenient or (node.validator is not None and node.validator.types):
            return
        if node.foreign and spec.is_box and is_box(output.type):  # which boxes join, versions of ComfyUI disagree
            return
        if not (output.any_type or spec.any_type or joins(output.type, spec.type)):
            finding.faults.append(faults.return_type_mismatch(spec, output.type, link))

    def _inspect_literal(self, finding: _Finding, spec: InputSpec, given: Any) -> None:
        value = unwrapped(given)
        try:
            value = convert(spec, value)
        except (ValueError, TypeError, OverflowError) as refused:
            finding.faults.append(faults.invalid_input_type(spec, value, str(refused)))
            return
        if value is not given and as_link(value) is None:  # what looks like a link must stay wrapped
            finding.changed[spec.name] = value
        try:
            fault = self._check(finding.spec, spec, value)
        except TypeError as incomparable:
            finding.exceptions.append(("TypeError", str(incomparable)))
            return
        if fault is not None:
            finding.faults.append(fault)
        elif self._is_file(finding.spec, spec, value):
            finding.files.append(value)
        elif spec.folder in BASE_FOLDERS and isinstance(value, str) and value not in (*spec.first, *spec.last):
            finding.models.append(value)

    def _check(self, node: NodeSpec, spec: InputSpec, value: Any) -> Fault | None:
        if spec.upload:
            is_word = value in spec.first or (node.lenient and not may_be_filename(value))
            return None if is_word else check_file(spec, value, self.input_files)
        own = node.validator
        if own is not None and (own.all_inputs or spec.name in own.inputs):
            return None
        if node.lenient or self._is_file(node, spec, value):
            return None
        return check_limits(spec, value, any_choice=node.foreign and spec.type == COMBO)

    def _is_file(self, node: NodeSpec, spec: InputSpec, value: Any) -> bool:
        return may_name_file(node, spec, value) and is_known(value, self.input_files)

    def _expected(self, node: NodeSpec, inputs: dict[str, Any]) -> Iterator[InputSpec]:
        """The declared inputs, and those that a node with open inputs is given beside them.

        Of a foreign node only links count there: what feeds it must be looked at, and what else it takes is not known.
        """
        yield from node.input.values()
        if not (node.open_inputs or node.lenient):
            return
        for name, value in inputs.items():
            if name in node.input or (node.foreign and not self._is_link(value)):
                continue
            yield InputSpec(name=name, type=ANY, kind="optional", any_type=True)

    def _is_link(self, value: Any) -> bool:
        link = as_link(value)
        return link is not None and link.node_id in self.prompt

    def _inspect_by_its_own_code(
        self, finding: _Finding, validator: ValidatorSpec, inputs: dict[str, Any], ask: CustomCheck
    ) -> None:
        names = [name for name in finding.spec.input if name in inputs]
        asked = [name for name in names if validator.all_inputs or name in validator.inputs]
        given = {name: finding.changed.get(name, inputs[name]) for name in asked}
        literals = {name: None if isinstance(value, list) else value for name, value in given.items()}
        types = {spec.name: self._received(link) for spec, link in finding.links}
        try:
            verdict = ask(finding.spec.name, literals, types)
        except Exception as raised:  # a node's own code may raise anything
            finding.exceptions.append((type(raised).__name__, str(raised)))
            return
        if verdict is not True:
            reason = verdict if isinstance(verdict, str) else None
            arguments = [*asked, *(["input_types"] if validator.types else [])]
            finding.faults.extend(faults.custom_validation_failed(name, reason) for name in arguments)

    def _received(self, link: list[Any]) -> Any:
        source = self.specs[self.prompt[link[0]]["class_type"]]
        return ANY if source.lenient else source.outputs[link[1]].type


@dataclass(slots=True)
class _Step:
    """A node under inspection, the input that led to it, and the links not yet followed."""

    node_id: str
    used_by: tuple[InputSpec, list[Any]] | None
    rest: Iterator[tuple[InputSpec, list[Any]]]
    sound: bool = True


def _no_such_node(target: Any) -> tuple[str, str]:
    if isinstance(target, list | dict):
        return "TypeError", f"unhashable type: '{type(target).__name__}'"
    return "KeyError", repr(target)


def _judge(walk: _Walk, outputs: list[str]) -> Validated:
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
    running = [walk.found[each] for each in feeders_first(good, lambda node_id: _targets(walk.found[node_id]))]
    return Validated(
        workflow=workflow,
        outputs=tuple(good),
        node_errors=node_errors,
        file_references=tuple(dict.fromkeys(name for each in running for name in each.files)),
        models=tuple(dict.fromkeys(name for each in running for name in each.models)),
    )


def _node_errors(walk: _Walk, bad: list[str]) -> dict[str, Any]:
    """The nodes with faults of their own, and which failed outputs each spoils."""
    listed = bad[:LISTED_DEPENDENTS]
    spoils = dict.fromkeys(walk.found, 0)  # bit n: the n-th failed output depends on the node
    spoils.update({output: 1 << position for position, output in enumerate(listed)})
    for node_id in reversed(walk.finished):
        for target in _targets(walk.found[node_id]):
            spoils[target] |= spoils[node_id]
    return {
        node_id: {
            "errors": walk.found[node_id].faults,
            "dependent_outputs": [output for position, output in enumerate(listed) if spoils[node_id] >> position & 1],
            "class_type": walk.found[node_id].spec.name,
        }
        for node_id in walk.finished
        if walk.found[node_id].faults
    }


def _targets(finding: _Finding) -> Iterator[str]:
    return (link[0] for _, link in finding.links)


def _converted(node: dict[str, Any], finding: _Finding | None) -> dict[str, Any]:
    inputs = node.get("inputs")
    if not isinstance(inputs, dict):  # no run needs this node
        return {**node, "inputs": {}}
    if finding is None or not finding.changed:
        return node
    return {**node, "inputs": {**inputs, **finding.changed}}
