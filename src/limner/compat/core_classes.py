"""Limner's own nodes as classes in ComfyUI's classic style, for packs that call or subclass these."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any

from limner.compat.lists import FolderList
from limner.compat.methods import ORDERS, method_of
from limner.compat.place import here
from limner.compat.saving import PreviewImageBase, SaveImageBase
from limner.engine.context import current
from limner.errors import UnfitInput
from limner.graph.kinds import NodeType, Result
from limner.graph.spec import InputSpec, NodeSpec
from limner.graph.types import ANY

SAVING: dict[str, type] = {"SaveImage": SaveImageBase, "PreviewImage": PreviewImageBase}


class CoreNode:
    """Base of the classes that stand for Limner's nodes. `kind` is the node itself."""

    kind: NodeType
    RELATIVE_PYTHON_MODULE: str

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:  # noqa: N802 - ComfyUI's name
        """As a pack's own class would tell them: choices of model files are read anew."""
        return input_types(cls.kind.spec)

    @classmethod
    def run(cls, *values: Any, **named: Any) -> Any:
        """The node's outputs as a tuple, or with what it shows: `{"result", "ui"}`. Of an async node, awaitable."""
        inputs = _bound(cls.kind.spec, values, named)
        ctx = here().running() or current()
        returned = cls.kind.call(inputs, ctx)
        return _awaited(returned) if inspect.isawaitable(returned) else returned_as(returned)


def class_of(kind: NodeType) -> type[CoreNode]:
    """The class for a node."""
    spec = kind.spec
    method = method_of(spec.name)
    members: dict[str, Any] = {
        "kind": kind,
        "__module__": spec.python_module,
        "__doc__": spec.description,
        "FUNCTION": method,
        "CATEGORY": spec.category,
        "DESCRIPTION": spec.description,
        "RETURN_TYPES": tuple(AnyType(each.type) if each.any_type else each.type for each in spec.outputs),
        "RETURN_NAMES": tuple(each.name for each in spec.outputs),
        "OUTPUT_NODE": spec.output_node,
        "OUTPUT_IS_LIST": tuple(each.is_list for each in spec.outputs),
        "INPUT_IS_LIST": spec.input_is_list,
        "RELATIVE_PYTHON_MODULE": spec.python_module,
        method: _method(kind, method),
    }
    if method != "execute":
        members["execute"] = classmethod(_run)
    bases = (SAVING[spec.name], CoreNode) if spec.name in SAVING else (CoreNode,)
    return type(spec.name, bases, members)


@cache
def classes() -> dict[str, type[CoreNode]]:
    """Every node of Limner's own by its name."""
    return {name: class_of(kind) for name, kind in here().kinds.items()}


def classes_of(python_module: str) -> dict[str, Any]:
    """Those that ComfyUI has in this module, and the module's own table of them."""
    found: dict[str, Any] = {
        name: each for name, each in classes().items() if each.kind.spec.python_module == python_module
    }
    return {**found, "NODE_CLASS_MAPPINGS": dict(found), "NODE_DISPLAY_NAME_MAPPINGS": titles(found)} if found else {}


def titles(found: Mapping[str, type[CoreNode]]) -> dict[str, str]:
    return {name: each.kind.spec.display_name for name, each in found.items() if each.kind.spec.display_name}


class AnyType(str):
    """A type that is never unlike another, as packs expect of one that joins with all."""

    __slots__ = ()

    def __new__(cls, shown: Any = ANY) -> AnyType:
        return str.__new__(cls, shown if isinstance(shown, str) else ANY)

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


def input_types(spec: NodeSpec) -> dict[str, dict[str, Any]]:
    sections: dict[str, dict[str, Any]] = {kind: {} for kind in spec.kinds}
    for each in spec.inputs:
        sections.setdefault(each.kind, {})[each.name] = each.type if each.kind == "hidden" else _shown(each)
    return sections


def returned_as(result: Result) -> Any:
    """A node's result in the form in which a class returns it."""
    if result.ui is None and result.expand is None:
        return result.values
    told: dict[str, Any] = {"result": result.values}
    if result.ui is not None:
        told["ui"] = result.ui
    if result.expand is not None:
        told["expand"] = result.expand
    return told


def _method(kind: NodeType, name: str) -> Callable[..., Any]:
    """The method by which packs know the class; of the classes that save, their own."""
    if kind.spec.name in SAVING:
        own: Callable[..., Any] = getattr(SAVING[kind.spec.name], name)
        return own

    def method(self: Any, *values: Any, **named: Any) -> Any:
        return type(self).run(*values, **named)

    method.__name__ = name
    method.__signature__ = _signature(kind.spec)  # type: ignore[attr-defined]
    return method


def _run(cls: type[CoreNode], *values: Any, **named: Any) -> Any:
    return cls.run(*values, **named)


def _signature(spec: NodeSpec) -> inspect.Signature:
    """What tools that look at the method are told: inputs in their order, those that need not be given with None."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    self = inspect.Parameter("self", kind)
    first = ORDERS.get(spec.name, ())
    inputs = sorted(spec.inputs, key=lambda each: first.index(each.name) if each.name in first else len(first))
    needed = [each for each in inputs if each.kind == "required" and "default" not in each.options]
    others = [each for each in inputs if each not in needed]
    named: list[tuple[InputSpec, Any]] = [(each, inspect.Parameter.empty) for each in needed]
    named += [(each, each.options.get("default")) for each in others]
    parameters = [
        inspect.Parameter(each.name, kind, default=default) for each, default in named if each.name.isidentifier()
    ]
    return inspect.Signature([self, *parameters])


def _shown(each: InputSpec) -> tuple[Any, ...]:
    type_: Any = AnyType(each.type) if each.any_type else each.type
    if each.folder is not None:
        type_ = _files(each)
    return (type_, dict(each.options)) if each.has_options else (type_,)


def _files(each: InputSpec) -> FolderList:
    names = here().models.lists().get(str(each.folder), [])
    return FolderList(str(each.folder), names, first=each.first, last=each.last)


def _bound(spec: NodeSpec, values: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name; inputs that were left out get their defaults."""
    names = [each.name for each in spec.inputs]
    first = ORDERS.get(spec.name, ())
    order = [*first, *(name for name in names if name not in first)]
    if len(values) > len(order) and not spec.open_inputs:
        raise TypeError(f"{spec.name} takes {len(order)} inputs ({', '.join(order)}), and {len(values)} were given")
    inputs = {**dict(zip(order, values, strict=False)), **named}
    unknown = [name for name in inputs if name not in order]
    if unknown and not spec.open_inputs:
        raise TypeError(f"{spec.name} has no input {unknown[0]!r}; it has {', '.join(order)}")
    for each in spec.inputs:
        if each.name not in inputs:
            if "default" in each.options:
                inputs[each.name] = each.options["default"]
            elif each.kind == "required":
                raise UnfitInput(f"{spec.name} was called without its input {each.name!r}")
    return inputs


async def _awaited(returned: Awaitable[Result]) -> Any:
    return returned_as(await returned)
