"""SchemaNode: a class in ComfyUI's schema style (`define_schema`, `execute`) as a kind of node."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping
from typing import Any

from limner.compat.api.inputs import Input
from limner.compat.api.nodes import ComfyNode, HiddenHolder, NodeOutput, Schema
from limner.compat.api.types import Combo
from limner.compat.classes import UnfitClass, taken, validator_of
from limner.compat.inputs import UPLOADS, as_json
from limner.compat.lists import FolderList
from limner.compat.results import result_of, shown, values_of
from limner.engine.context import RunContext
from limner.graph.blocker import ExecutionBlocker
from limner.graph.folders import Folders
from limner.graph.kinds import NodeType, Result
from limner.graph.spec import InputSpec, NodeSpec, OutputSpec, undeclared
from limner.graph.types import COMBO, is_dynamic


def is_schema_class(node_class: Any) -> bool:
    return isinstance(node_class, type) and issubclass(node_class, ComfyNode)


class SchemaNode(NodeType):
    """A schema-style class. Nothing is kept between calls: each has a locked class of its own."""

    def __init__(self, node_class: type[ComfyNode], spec: NodeSpec, *, expands: bool) -> None:
        self.node_class = node_class
        self.spec = spec
        self.is_async = inspect.iscoroutinefunction(node_class.execute)
        self._expands = expands
        self._hidden = [each.name for each in spec.inputs if each.kind == "hidden"]
        self._nested = {each.name for each in spec.inputs if is_dynamic(each.type)}

    @classmethod
    def of(
        cls,
        name: str,
        node_class: type[ComfyNode],
        *,
        module: str,
        folders: Folders | None = None,
    ) -> SchemaNode:
        """Reads a class's schema. Raises UnfitClass, with what its own code raised as the cause."""
        try:
            schema = node_class.GET_SCHEMA()
            spec = read_schema(name, node_class, schema, module, folders or Folders({}))
        except Exception as error:
            raise UnfitClass(f"{name}: {type(error).__name__}: {error}") from error
        return cls(node_class, spec, expands=schema.enable_expand)

    def input(self, name: str) -> InputSpec | None:
        """Those behind a dynamic input are called `NAME.INPUT`."""
        found = NodeType.input(self, name)
        return undeclared(name) if found is None and name.partition(".")[0] in self._nested else found

    def call(  # a schema-style node has no object of its own
        self,
        inputs: Mapping[str, Any],
        ctx: Any,
        instance: Any = None,  # noqa: ARG002
    ) -> Result | Awaitable[Result]:
        returned = self._class_for(inputs).execute(**self._given(inputs))
        return self._awaited(returned, ctx) if inspect.isawaitable(returned) else self._result(returned, ctx)

    def wanted(self, inputs: Mapping[str, Any], ctx: Any, instance: Any = None) -> Any:
        if not self.node_class.overrides("check_lazy_status"):
            return NodeType.wanted(self, inputs, ctx, instance)
        return self._class_for(inputs).check_lazy_status(**self._given(inputs))

    def fingerprint(self, inputs: Mapping[str, Any], ctx: Any) -> Any:  # noqa: ARG002
        return self.node_class.fingerprint_inputs(**taken(self.node_class.fingerprint_inputs, self._given(inputs)))

    def check(self, inputs: Mapping[str, Any], types: Mapping[str, Any]) -> Any:
        given = self._given(inputs)
        if self.spec.validator is not None and self.spec.validator.types:
            given["input_types"] = dict(types)
        return self.node_class.validate_inputs(**given)

    def _class_for(self, inputs: Mapping[str, Any]) -> type[ComfyNode]:
        return self.node_class.locked(HiddenHolder(**{name: inputs.get(name) for name in self._hidden}))

    def _given(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs without the hidden ones; those behind a dynamic one in a dict under its name."""
        given: dict[str, Any] = {}
        for name, value in inputs.items():
            first, _, rest = name.partition(".")
            if name in self._hidden:
                continue
            if first in self._nested:
                _nest(given.setdefault(first, {}), first, rest, value)
            else:
                given[name] = value
        return given

    async def _awaited(self, returned: Awaitable[Any], ctx: RunContext) -> Result:
        return self._result(await returned, ctx)

    def _result(self, returned: Any, ctx: RunContext) -> Result:
        outputs = len(self.spec.outputs)
        if not isinstance(returned, NodeOutput):
            return result_of(returned, outputs, ctx)
        if returned.block_execution is not None:
            return Result(values=(ExecutionBlocker(returned.block_execution),) * outputs)
        if returned.expand is not None and not self._expands:
            raise TypeError(f"{self.spec.name} expands, and its schema does not say enable_expand=True")
        values = returned.args[0] if _blocks_all(returned.args, outputs) else returned.args
        ui = returned.ui
        if hasattr(ui, "as_dict"):
            ui = ui.as_dict()
        return Result(
            values=values_of(values, outputs) if values or outputs else (),
            ui=None if ui is None else shown(ui, ctx),
            expand=returned.expand,
        )


def _blocks_all(values: tuple[Any, ...], outputs: int) -> bool:
    return len(values) == 1 and outputs != 1 and isinstance(values[0], ExecutionBlocker)


def _nest(into: dict[str, Any], name: str, rest: str, value: Any) -> None:
    """`choice` and `choice.width` as `{"choice": ..., "width": ...}`; deeper ones likewise."""
    if not rest:
        into[name] = value
        return
    first, _, deeper = rest.partition(".")
    if deeper:
        held = into.get(first)
        inner = held if isinstance(held, dict) else {} if held is None else {first: held}
        into[first] = inner
        _nest(inner, first, deeper, value)
    else:
        into[first] = value


def read_schema(name: str, node_class: type[ComfyNode], schema: Schema, module: str, folders: Folders) -> NodeSpec:
    """What a schema promises, as /object_info of ComfyUI shows it."""
    inputs = [_input(name, each, folders) for each in schema.inputs]
    inputs.sort(key=lambda each: each.kind != "required")  # the order within each kind stays
    hidden = [InputSpec(name=each.name, type=each.value, kind="hidden") for each in schema.hidden]
    tooltips = tuple(each.tooltip for each in schema.outputs)
    return NodeSpec(
        name=name,
        display_name=schema.display_name,
        category=schema.category,
        description=schema.description or "",
        python_module=module,
        inputs=(*inputs, *hidden),
        outputs=tuple(
            OutputSpec(
                name=each.display_name or str(each.get_io_type()),
                type=each.get_io_type(),
                is_list=each.is_output_list,
                any_type=each.any_type,
            )
            for each in schema.outputs
        ),
        output_node=schema.is_output_node,
        output_tooltips=tooltips if any(tooltips) else None,  # type: ignore[arg-type]  # some may have none
        input_is_list=schema.is_input_list,
        not_idempotent=schema.not_idempotent,
        deprecated=schema.is_deprecated,
        experimental=schema.is_experimental,
        api_node=schema.is_api_node,
        schema_style=True,
        open_inputs=schema.accept_all_inputs,
        fingerprinted=node_class.overrides("fingerprint_inputs"),
        validator=validator_of(node_class.validate_inputs) if node_class.overrides("validate_inputs") else None,
        kinds=tuple(dict.fromkeys(("required", *(each.kind for each in (*inputs, *hidden))))),
    )


def _input(class_name: str, each: Input, folders: Folders) -> InputSpec:
    options = dict(each.options())
    type_ = each.get_io_type()
    folder, first, last = _folder(class_name, each, folders)
    upload = next((kind for kind in UPLOADS if options.get(f"{kind}_upload")), None)
    if folder is not None:
        options["options"] = []
    return InputSpec(
        name=each.id,
        type=type_ if isinstance(type_, str) else as_json(type_),
        options=as_json(options),
        kind="optional" if each.optional else "required",
        folder=folder,
        upload=upload if folder is None and type_ == COMBO else None,
        has_options=True,
        any_type=each.any_type or is_dynamic(type_),
        first=first,
        last=last,
    )


def _folder(class_name: str, each: Input, folders: Folders) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
    offered = each.options_list if isinstance(each, Combo.Input) else None
    if isinstance(offered, FolderList) and offered.whole:
        return offered.folder, offered.first, offered.last
    offer = folders.offer(class_name, each.id, offered) if isinstance(offered, list) and offered else None
    return (None, (), ()) if offer is None else (offer.folder, offer.first, offer.last)
