"""Goes through a workflow from its outputs to what feeds them, and finds what is wrong with each node on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from limner.graph import faults
from limner.graph.catalogue import Catalogue
from limner.graph.dynamic import OutputTypes, behind, taken_type
from limner.graph.faults import Fault
from limner.graph.findings import Feed, Finding
from limner.graph.literals import check_file, check_limits, convert, is_known, may_be_filename
from limner.graph.references import may_name_file
from limner.graph.spec import InputSpec, NodeSpec, OutputSpec, ValidatorSpec, undeclared
from limner.graph.types import ANY, COMBO, FOLLOWING, is_box, is_dynamic, joins
from limner.graph.workflow import as_link, unwrapped

BASE_FOLDERS = frozenset({"checkpoints", "diffusion_models", "unet", "unet_gguf", "diffusers"})
"""Model folders whose files are whole networks: jobs that name the same ones are worth running on the same worker."""

CustomCheck = Callable[[str, dict[str, Any], dict[str, Any]], bool | str]
"""Asks a class's own validation code: (class, inputs with None for links, types of the links), to True or a reason."""


class Walk:
    """What is known of a workflow's nodes so far. Without recursion: chains may be as long as they like."""

    def __init__(
        self,
        prompt: dict[str, Any],
        catalogue: Catalogue,
        input_files: frozenset[str],
        custom_check: CustomCheck | None,
    ) -> None:
        self.prompt = prompt
        self.specs = catalogue.filled
        self.output_types = OutputTypes(prompt, self.specs)
        self.input_files = input_files
        self.custom_check = custom_check
        self.found: dict[str, Finding] = {}
        self.finished: list[str] = []  # each after all that feeds it

    def visit(self, output: str) -> None:
        """Finds out about a node and all that feeds it, unless that is known already; `settle` then judges them."""
        if output in self.found:
            return
        stack: list[_Step] = [self._step(output, None)]
        while stack:
            here = stack[-1]
            feed = next(here.rest, None)
            if feed is None:
                self._finish(stack.pop())
            elif feed.source not in self.found:
                stack.append(self._step(feed.source, feed))

    def _step(self, node_id: str, used_by: Feed | None) -> _Step:
        finding = self.found[node_id] = self._inspect(self.prompt[node_id])
        return _Step(node_id, used_by, iter(finding.feeds))

    def _finish(self, step: _Step) -> None:
        finding = self.found[step.node_id]
        for kind, reason in finding.exceptions:
            if step.used_by is None:
                finding.faults.append(faults.exception_during_validation(kind, reason))
            else:
                user = step.used_by
                finding.faults.append(faults.exception_during_inner_validation(kind, reason, user.input, user.link))
        self.finished.append(step.node_id)

    def _inspect(self, node: dict[str, Any]) -> Finding:
        finding = Finding(self.specs[node["class_type"]])
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
        finding.feeds.extend(self._loose_feeds(finding.spec, inputs))
        for spec in _expected(finding.spec, inputs):
            if spec.name not in inputs:
                if spec.kind == "required" and (not is_dynamic(spec.type) or _is_own_choice(finding.spec, spec)):
                    finding.faults.append(faults.required_input_missing(spec.name))
            elif isinstance(inputs[spec.name], list):
                self._inspect_link(finding, spec, inputs[spec.name])
            else:
                self._inspect_literal(finding, spec, inputs[spec.name])
        if finding.spec.validator is not None and self.custom_check is not None:
            self._inspect_by_its_own_code(finding, finding.spec.validator, inputs, self.custom_check)
        return finding

    def _inspect_link(self, finding: Finding, spec: InputSpec, link: list[Any]) -> None:
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
            self._inspect_types(finding, spec, self.output_types.of(target, slot), link)
        finding.feeds.append(Feed(spec, link))

    def _inspect_types(self, finding: Finding, spec: InputSpec, output: OutputSpec, link: list[Any]) -> None:
        node = finding.spec
        if node.lenient or (node.validator is not None and node.validator.types):
            return
        if node.foreign and spec.is_box and is_box(output.type):  # which boxes join, versions of ComfyUI disagree
            return
        wanted = taken_type(spec)
        any_type = output.any_type or (spec.any_type if spec.type == wanted else wanted == ANY)
        if not (any_type or joins(output.type, wanted)):
            finding.faults.append(faults.return_type_mismatch(spec, output.type, link))

    def _inspect_literal(self, finding: Finding, spec: InputSpec, given: Any) -> None:
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
            finding.denied |= spec.upload is not None
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
        return check_limits(spec, value, any_choice=node.foreign and spec.type in (COMBO, FOLLOWING))

    def _is_file(self, node: NodeSpec, spec: InputSpec, value: Any) -> bool:
        return may_name_file(node, spec, value) and is_known(value, self.input_files)

    def _loose_feeds(self, node: NodeSpec, inputs: dict[str, Any]) -> Iterator[Feed]:
        """What feeds a foreign node beside its declared inputs, where it may take more than it declares."""
        if not node.foreign or not (node.open_inputs or node.lenient):
            return
        for name, value in inputs.items():
            link = as_link(value)
            if name not in node.input and link is not None and link.node_id in self.prompt:
                yield Feed(undeclared(name), value, loose=True)

    def _inspect_by_its_own_code(
        self, finding: Finding, validator: ValidatorSpec, inputs: dict[str, Any], ask: CustomCheck
    ) -> None:
        names = [name for name in finding.spec.input if name in inputs]
        asked = [name for name in names if validator.all_inputs or name in validator.inputs]
        given = {name: finding.changed.get(name, inputs[name]) for name in asked}
        literals = {name: None if isinstance(value, list) else value for name, value in given.items()}
        types = {each.input.name: self._received(each) for each in finding.feeds}
        try:
            verdict = ask(finding.spec.name, literals, types)
        except Exception as raised:  # a node's own code may raise anything
            finding.exceptions.append((type(raised).__name__, str(raised)))
            return
        if verdict is not True:
            reason = verdict if isinstance(verdict, str) else None
            arguments = [*asked, *(["input_types"] if validator.types else [])]
            finding.faults.extend(faults.custom_validation_failed(name, reason) for name in arguments)

    def _received(self, feed: Feed) -> Any:
        source = self.specs[self.prompt[feed.source]["class_type"]]
        return ANY if source.lenient else self.output_types.of(feed.source, feed.link[1]).type


@dataclass(slots=True)
class _Step:
    """A node under inspection, the input that led to it, and the links not yet followed."""

    node_id: str
    used_by: Feed | None
    rest: Iterator[Feed]


def _expected(node: NodeSpec, inputs: dict[str, Any]) -> Iterator[InputSpec]:
    """The declared inputs, those that dynamic ones stand for, and what a node with open inputs is given beside."""
    yield from node.input.values()
    if node.foreign:
        return
    brought = {each.name: each for each in behind(node, inputs)}
    yield from brought.values()
    if node.open_inputs:
        yield from (undeclared(name) for name in inputs if name not in node.input and name not in brought)


def _is_own_choice(node: NodeSpec, spec: InputSpec) -> bool:
    """Whether a dynamic input must be given under its own name: a combo box whose choice brings others."""
    return spec.type == FOLLOWING and not node.foreign


def _no_such_node(target: Any) -> tuple[str, str]:
    if isinstance(target, list | dict):
        return "TypeError", f"unhashable type: '{type(target).__name__}'"
    return "KeyError", repr(target)
