"""What a kind of node promises (NodeSpec), and `@node`, which reads one from a function's signature."""

from __future__ import annotations

import inspect
import types
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from limner.graph.blocker import ExecutionBlocker
from limner.graph.types import ANY, COMBO, FOLLOWING, Hidden, InputType, Marker, Socket, is_box, is_dynamic

F = TypeVar("F", bound=Callable[..., Any])

KINDS = ("required", "optional", "hidden")
CORE_MODULES = frozenset({"nodes", "comfy_extras", "comfy_api_nodes"})
"""Where ComfyUI's own nodes come from, by the first part of `python_module`."""

SHOWN = frozenset({
    "input", "input_order", "output", "output_is_list", "output_name", "name", "display_name", "description",
    "python_module", "category", "output_node", "output_tooltips", "deprecated", "experimental", "api_node", "limner",
})  # fmt: skip
"""The keys of an /object_info entry that a NodeSpec has a field for, and `limner`, where `to_json` puts the rest."""

CONTEXT = "ctx"
"""The parameter of a node function that gets the run's context instead of an input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """One input. Its choices are the files of the model `folder`, or the tenant's input files if `upload` is told.

    `first` and `last` are offered beside those files: words such as "None".
    """

    name: str
    type: InputType
    options: dict[str, Any] = field(default_factory=dict)
    kind: str = "required"
    folder: str | None = None
    upload: str | None = None
    has_options: bool = False  # /object_info shows an options object, be it empty
    any_type: bool = False  # a link of every type may feed it
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()

    @property
    def lazy(self) -> bool:
        """Whether what feeds it is made only when the node asks for it."""
        return bool(self.options.get("lazy"))

    @property
    def raw_link(self) -> bool:
        """Whether the node gets the link itself, `[node id, slot]`, and not what comes by it."""
        return bool(self.options.get("rawLink"))

    @property
    def config(self) -> list[Any]:
        """`[type, options]`, as ComfyUI's errors show it."""
        return [self.type, self.options]

    @property
    def is_box(self) -> bool:
        """Whether it is a combo box, of whatever choices."""
        return is_box(self.type)

    @property
    def choices(self) -> Sequence[Any] | None:
        """The values to choose from; None where it is no combo box, or where its choices are not known here."""
        if isinstance(self.type, list):
            return self.type
        offered = self.options.get("options")
        if self.type == FOLLOWING and isinstance(offered, list):
            return [each["key"] for each in offered if isinstance(each, dict) and "key" in each]
        if self.type != COMBO or self.options.get("multiselect") or not isinstance(offered, list):
            return None
        return offered

    def with_choices(self, choices: Sequence[Any]) -> InputSpec:
        """The same input, offering these values. A list is taken as it is: do not change it afterwards."""
        offered = choices if isinstance(choices, list) else list(choices)
        if isinstance(self.type, list):
            return replace(self, type=offered)
        return replace(self, options={**self.options, "options": offered}, has_options=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """One output. `is_list`: the node gives a list whose items go on one by one."""

    name: str
    type: InputType
    is_list: bool = False
    any_type: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorSpec:
    """A node class has code of its own that checks inputs; what it looks at is exempt from the usual checks."""

    inputs: tuple[str, ...] = ()
    all_inputs: bool = False
    types: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"inputs": list(self.inputs), "all_inputs": self.all_inputs, "types": self.types}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ValidatorSpec:
        return cls(inputs=tuple(raw["inputs"]), all_inputs=raw["all_inputs"], types=raw["types"])


@dataclass(frozen=True, kw_only=True)
class NodeSpec:
    """All that is known of a kind of node without its code: enough to show it, and to check a workflow that uses it.

    `foreign`: read from another server's /object_info, which does not tell all. It says neither which inputs the class
    checks by code of its own, nor which types are made to join with all. What that server would take is taken here.
    """

    name: str
    display_name: str | None
    category: str
    description: str = ""
    python_module: str = "nodes"
    inputs: tuple[InputSpec, ...] = ()
    outputs: tuple[OutputSpec, ...] = ()
    output_node: bool = False
    output_tooltips: tuple[str, ...] | None = None
    input_is_list: bool = False
    not_idempotent: bool = False
    deprecated: bool = False
    experimental: bool = False
    api_node: bool = False
    schema_style: bool = False  # declared in ComfyUI's newer way: /object_info always shows its flags
    open_inputs: bool = False  # takes inputs of any name
    fingerprinted: bool = False  # has a fingerprint beside its inputs
    foreign: bool = False
    validator: ValidatorSpec | None = None
    more: Mapping[str, Any] = field(default_factory=dict)  # what else /object_info says of it
    kinds: tuple[str, ...] = ("required",)  # sections that /object_info shows, be they empty

    @cached_property
    def input(self) -> Mapping[str, InputSpec]:
        """The required and optional inputs, by name."""
        return {each.name: each for each in self.inputs if each.kind != "hidden"}

    @cached_property
    def hidden(self) -> Mapping[str, str]:
        """What the engine fills in: parameter name to UNIQUE_ID, PROMPT, ..."""
        return {each.name: str(each.type) for each in self.inputs if each.kind == "hidden"}

    @cached_property
    def with_files(self) -> tuple[InputSpec, ...]:
        """The inputs that name files of a model folder."""
        return tuple(each for each in self.inputs if each.folder)

    @cached_property
    def keyed_by_id(self) -> bool:
        """Whether two nodes of this kind with equal inputs may still give different results."""
        return self.not_idempotent or "UNIQUE_ID" in self.hidden.values()

    @property
    def lenient(self) -> bool:
        """Whether limits, choices and link types are left to the server that has its code: a node pack's class."""
        return self.foreign and self.python_module.partition(".")[0] not in CORE_MODULES

    def object_info(self) -> dict[str, Any]:
        """This node's entry in /object_info."""
        sections: dict[str, dict[str, Any]] = {kind: {} for kind in self.kinds}
        for each in self.inputs:
            sections.setdefault(each.kind, {})[each.name] = self._shown(each)
        info: dict[str, Any] = {
            "input": sections,
            "input_order": {kind: list(inputs) for kind, inputs in sections.items()},
            "output": [each.type for each in self.outputs],
            "output_is_list": [each.is_list for each in self.outputs],
            "output_name": [each.name for each in self.outputs],
            "name": self.name,
            "display_name": self.display_name,
            "description": self.description,
            "python_module": self.python_module,
            "category": self.category,
            "output_node": self.output_node,
        }
        if self.schema_style or self.output_tooltips is not None:
            info["output_tooltips"] = None if self.output_tooltips is None else list(self.output_tooltips)
        for flag in ("deprecated", "experimental", "api_node"):
            if self.schema_style or getattr(self, flag):
                info[flag] = getattr(self, flag)
        return {**info, **self.more}

    def to_json(self) -> dict[str, Any]:
        """The catalogue's form: the /object_info entry, and under `limner` what that loses."""
        more: dict[str, Any] = {
            "any_inputs": [each.name for each in self.inputs if each.any_type],
            "any_outputs": [slot for slot, each in enumerate(self.outputs) if each.any_type],
            "folders": {each.name: each.folder for each in self.inputs if each.folder},
            "uploads": {each.name: each.upload for each in self.inputs if each.upload},
            "words": {
                each.name: [list(each.first), list(each.last)] for each in self.inputs if each.first or each.last
            },
            "flags": [flag for flag in _FLAGS if getattr(self, flag)],
        }
        if self.validator is not None:
            more["validator"] = self.validator.to_json()
        return {**self.object_info(), "limner": {name: value for name, value in more.items() if value}}

    @classmethod
    def from_json(cls, info: Mapping[str, Any]) -> NodeSpec:
        """Reads `to_json`'s form, and a plain /object_info entry as well."""
        more = info.get("limner", {})
        flags, folders, uploads = more.get("flags", ()), more.get("folders", {}), more.get("uploads", {})
        words: dict[str, list[list[str]]] = more.get("words", {})
        any_inputs, any_outputs = more.get("any_inputs", ()), more.get("any_outputs", ())
        validator = more.get("validator")
        schema_style = "schema_style" in flags or ("limner" not in info and "api_node" in info)
        foreign = "foreign" in flags
        knows_any = schema_style or foreign
        tooltips = info.get("output_tooltips")
        return cls(
            name=info["name"],
            display_name=info["display_name"],
            category=info["category"],
            description=info.get("description", ""),
            python_module=info["python_module"],
            inputs=tuple(
                InputSpec(
                    name=name,
                    type=shown if isinstance(shown, str) else shown[0],
                    options=shown[1] if len(shown) > 1 and not isinstance(shown, str) else {},
                    kind=kind,
                    folder=folders.get(name),
                    upload=uploads.get(name),
                    has_options=len(shown) > 1 and not isinstance(shown, str),
                    any_type=name in any_inputs or (knows_any and kind != "hidden" and shown[0] == ANY),
                    first=tuple(words[name][0]) if name in words else (),
                    last=tuple(words[name][1]) if name in words else (),
                )
                for kind, section in info["input"].items()
                for name, shown in section.items()
            ),
            outputs=tuple(
                OutputSpec(
                    name=name,
                    type=type_,
                    is_list=is_list,
                    any_type=slot in any_outputs or (knows_any and type_ == ANY),
                )
                for slot, (name, type_, is_list) in enumerate(
                    zip(info["output_name"], info["output"], info["output_is_list"], strict=True)
                )
            ),
            output_node=info["output_node"],
            output_tooltips=None if tooltips is None else tuple(tooltips),
            deprecated=info.get("deprecated", False),
            experimental=info.get("experimental", False),
            api_node=info.get("api_node", False),
            validator=None if validator is None else ValidatorSpec.from_json(validator),
            more={key: value for key, value in info.items() if key not in SHOWN},
            kinds=tuple(info["input"]),
            schema_style=schema_style,
            **{flag: flag in flags for flag in _FLAGS if flag != "schema_style"},
        )

    def _shown(self, each: InputSpec) -> Any:
        if each.kind == "hidden":
            return [each.type] if self.schema_style else each.type
        return [each.type, each.options] if each.has_options else [each.type]


_FLAGS = ("input_is_list", "not_idempotent", "schema_style", "open_inputs", "fingerprinted", "foreign")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a node may return instead of bare values. The values of `ui` are lists.

    A value may be an ExecutionBlocker. `expand`: a graph of nodes by id that runs in this node's place; `values` may
    then be links into it. The value of an output that `is_list` is a list, whose items go on one by one.
    """

    values: tuple[Any, ...] = ()
    ui: dict[str, list[Any]] | None = None
    expand: dict[str, Any] | None = None


class NodeType:
    """A kind of node that can run: its spec, and what the engine asks of it.

    The engine maps lists: each call gets one item of each input, or whole lists with `spec.input_is_list`. Every
    method but `instance` and `input` may give an awaitable instead of its answer. `ctx` is a RunContext.
    """

    spec: NodeSpec
    is_async: bool = False  # its calls are awaitable: it starts before others that are ready, which run meanwhile

    def instance(self) -> Any:
        """A new object for one node of a workflow, kept between runs and handed to `call` and `wanted`; or None."""
        return None

    def input(self, name: str) -> InputSpec | None:
        """How this input is declared; None where the node does not take it."""
        declared = self.spec.input.get(name)
        return undeclared(name) if declared is None and self.spec.open_inputs else declared

    def call(self, inputs: Mapping[str, Any], ctx: Any, instance: Any = None) -> Result | Awaitable[Result]:
        """Runs the node with inputs by name, hidden ones among them."""
        raise NotImplementedError(f"{type(self).__name__} has no code for {self.spec.name}")

    def wanted(
        self,
        inputs: Mapping[str, Any],
        ctx: Any,  # noqa: ARG002
        instance: Any = None,  # noqa: ARG002
    ) -> Sequence[str | None] | Awaitable[Sequence[str | None] | None] | None:
        """Which lazy inputs are wanted, asked before `call`; those that were not made yet arrive as None.

        Asked again once they are there, until it names none that is missing.
        """
        return [name for name, each in self.spec.input.items() if each.lazy and name in inputs]

    def fingerprint(self, inputs: Mapping[str, Any], ctx: Any) -> Any:  # noqa: ARG002
        """What the result depends on beside the inputs, such as a file's digest; None when there is nothing.

        `inputs` are the literal ones; linked inputs arrive as None. Asked only where `spec.fingerprinted`.
        """
        return None

    def check(
        self,
        inputs: Mapping[str, Any],  # noqa: ARG002
        types: Mapping[str, Any],  # noqa: ARG002
    ) -> bool | str | Awaitable[bool | str]:
        """Whether inputs fit, by the class's own code, or why not. Asked only where the spec has a validator.

        `inputs` are those that the validator looks at, with None for linked ones; `types` those of all linked inputs.
        """
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionNode(NodeType):
    """A node that is a function under `@node`."""

    spec: NodeSpec
    function: Callable[..., Any]
    is_async: bool = False
    wants_context: bool = False
    fingerprint_function: Callable[..., Any] | None = None
    lazy_function: Callable[..., Any] | None = None

    def call(self, inputs: Mapping[str, Any], ctx: Any, instance: Any = None) -> Any:  # noqa: ARG002
        returned = self.function(ctx=ctx, **inputs) if self.wants_context else self.function(**inputs)
        return self._awaited(returned) if inspect.isawaitable(returned) else self._result(returned)

    def wanted(self, inputs: Mapping[str, Any], ctx: Any, instance: Any = None) -> Any:
        """Without a function that tells, all that it links to: a lazy input is never left out by accident."""
        if self.lazy_function is None:
            return NodeType.wanted(self, inputs, ctx, instance)
        return _asked(self.lazy_function, inputs, ctx)

    def fingerprint(self, inputs: Mapping[str, Any], ctx: Any) -> Any:
        return None if self.fingerprint_function is None else _asked(self.fingerprint_function, inputs, ctx)

    async def _awaited(self, returned: Awaitable[Any]) -> Result:
        return self._result(await returned)

    def _result(self, returned: Any) -> Result:
        wanted = len(self.spec.outputs)
        if isinstance(returned, Result):
            result = returned
        elif isinstance(returned, ExecutionBlocker):
            result = Result(values=(returned,) * wanted)
        elif wanted == 1:
            result = Result(values=(returned,))
        else:
            result = Result(values=() if returned is None else tuple(returned))
        if len(result.values) != wanted:
            raise TypeError(f"{self.spec.name} returned {len(result.values)} values and declares {wanted} outputs")
        return result


def _asked(function: Callable[..., Any], inputs: Mapping[str, Any], ctx: Any) -> Any:
    """Calls a function with those of a node's parameters that it names; absent ones have its default, else None."""
    offered = {CONTEXT: ctx, **inputs}
    parameters = inspect.signature(function).parameters.values()
    missing = {each.name: None if each.default is each.empty else each.default for each in parameters}
    return function(**{name: offered.get(name, default) for name, default in missing.items()})


def undeclared(name: str) -> InputSpec:
    """An input of a node that takes inputs of any name."""
    return InputSpec(name=name, type=ANY, kind="optional", any_type=True)


def node(
    name: str,
    *,
    category: str,
    display_name: str | None = None,
    module: str = "nodes",
    outputs: Sequence[str | OutputSpec] | Mapping[str, str] | None = None,
    output_node: bool = False,
    fingerprint: Callable[..., Any] | None = None,
    lazy: Callable[..., Any] | None = None,
    not_idempotent: bool = False,
    deprecated: bool = False,
    experimental: bool = False,
    input_is_list: bool = False,
    schema_style: bool = False,
    output_tooltips: Sequence[str] | None = None,
) -> Callable[[F], F]:
    """Makes a function a node: the function stays as it is and gets a `node` attribute, its NodeType.

    Inputs come in the order of the signature, each from the marker in its annotation (graph/types.py); a parameter
    named `ctx` gets the RunContext, one of the form `**inputs` inputs of any other name (with a marker: those that the
    marker tells of, such as `Grows`). Outputs come from the return annotation, or from `outputs`: types, OutputSpecs,
    or names to types. `fingerprint` takes any of the node's parameters by name, and says what the result depends on
    beside them. `lazy` takes them too, those marked lazy that are not there yet as None, and gives the names of those
    that are wanted. `schema_style`: /object_info shows the node
    in the newer way (flags always, options always, combo boxes as COMBO).
    """

    def mark(function: F) -> F:
        hints = get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters
        named = [
            each
            for each in parameters.values()
            if each.name != CONTEXT and (each.kind is not each.VAR_KEYWORD or _marker(hints.get(each.name)))
        ]
        inputs = tuple(_input(name, each, hints.get(each.name)) for each in named)
        if schema_style:
            inputs = tuple(map(_in_schema_style, inputs))
        inputs = tuple(sorted(inputs, key=lambda each: KINDS.index(each.kind)))
        spec = NodeSpec(
            name=name,
            display_name=display_name or (None if schema_style else name),
            category=category,
            description=inspect.getdoc(function) or "",
            python_module=module,
            inputs=inputs,
            outputs=_outputs(name, hints.get("return"), outputs),
            output_node=output_node,
            not_idempotent=not_idempotent,
            deprecated=deprecated,
            experimental=experimental,
            fingerprinted=fingerprint is not None,
            input_is_list=input_is_list,
            schema_style=schema_style,
            output_tooltips=None if output_tooltips is None else tuple(output_tooltips),
            open_inputs=any(each.kind is each.VAR_KEYWORD for each in parameters.values()),
            kinds=tuple(dict.fromkeys(("required", *(each.kind for each in inputs)))),
        )
        kind = FunctionNode(
            spec=spec,
            function=function,
            is_async=inspect.iscoroutinefunction(function),
            wants_context=CONTEXT in parameters,
            fingerprint_function=fingerprint,
            lazy_function=lazy,
        )
        function.node = kind  # type: ignore[attr-defined]
        return function

    return mark


def kind_of(function: Callable[..., Any]) -> NodeType:
    """The node that `@node` made of a function."""
    kind = getattr(function, "node", None)
    if not isinstance(kind, NodeType):
        raise TypeError(f"{function!r} is no node: @node is missing")
    return kind


def _input(node_name: str, parameter: inspect.Parameter, hint: Any) -> InputSpec:
    marker = _marker(hint)
    if marker is None:
        raise TypeError(f"parameter {parameter.name} of node {node_name} has no marker such as Socket(...) or Int(...)")
    has_default = parameter.default is not inspect.Parameter.empty
    options = dict(marker.options or {})
    shows_default = has_default and marker.takes_default and not (marker.optional and parameter.default is None)
    if shows_default:
        options = {"default": marker.default(parameter.default), **options}
    optional = marker.optional or (isinstance(marker, Socket) and has_default)
    return InputSpec(
        name=parameter.name,
        type=marker.type,
        options=options,
        kind=marker.kind or ("optional" if optional else "required"),
        folder=marker.folder,
        upload=marker.upload,
        last=marker.last,
        has_options=shows_default or marker.options is not None,
        any_type=(marker.type == ANY or is_dynamic(marker.type)) and not isinstance(marker, Hidden),
    )


def _in_schema_style(each: InputSpec) -> InputSpec:
    """The input as nodes of the newer style show it."""
    if each.kind == "hidden":
        return each
    options = dict(each.options)
    if each.type == "STRING":
        options.setdefault("multiline", False)
    if isinstance(each.type, list):
        options = {"multiselect": False, "options": each.type, **options}
        return replace(each, type=COMBO, options=options, has_options=True)
    return replace(each, options=options, has_options=True)


def _outputs(
    node_name: str, hint: Any, given: Sequence[str | OutputSpec] | Mapping[str, str] | None
) -> tuple[OutputSpec, ...]:
    if isinstance(given, Mapping):
        return tuple(_output(name, type_) for name, type_ in given.items())
    if given is not None:
        return tuple(each if isinstance(each, OutputSpec) else _output(each, each) for each in given)
    if hint is None or hint is types.NoneType:
        return ()
    markers = [_marker(each) for each in (get_args(hint) if get_origin(hint) is tuple else (hint,))]
    if None in markers:
        raise TypeError(f"node {node_name} must tell its outputs: by markers in what it returns, or by outputs=(...)")
    return tuple(_output(str(each.type), each.type) for each in markers if each is not None)


def _output(name: str, type_: InputType) -> OutputSpec:
    return OutputSpec(name=name, type=type_, any_type=type_ == ANY or is_dynamic(type_))


def _marker(hint: Any) -> Marker | None:
    """The last marker of an annotation; `Annotated[...] | None` is looked into."""
    if get_origin(hint) in (Union, types.UnionType):
        found = [marker for marker in map(_marker, get_args(hint)) if marker is not None]
        return found[-1] if found else None
    found = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Marker)]
    return found[-1] if found else None
