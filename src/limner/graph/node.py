"""`@node`: reads what a kind of node promises from a function's signature, and makes it one that can run."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from limner.graph.kinds import CONTEXT, FunctionNode, NodeType
from limner.graph.spec import KINDS, InputSpec, NodeSpec, OutputSpec
from limner.graph.types import ANY, COMBO, Hidden, InputType, Marker, Socket, is_dynamic

F = TypeVar("F", bound=Callable[..., Any])


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
