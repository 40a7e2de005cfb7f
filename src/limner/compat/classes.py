"""ClassNode: a class in ComfyUI's classic style (INPUT_TYPES, RETURN_TYPES, FUNCTION) as a kind of node."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from limner.compat.inputs import Reader, as_json, is_any, shown_type
from limner.compat.results import names, result_of
from limner.engine.context import RunContext
from limner.errors import LimnerError
from limner.graph.folders import Folders
from limner.graph.kinds import NodeType, Result
from limner.graph.spec import KINDS, InputSpec, NodeSpec, OutputSpec, ValidatorSpec

FILLED = frozenset({"PROMPT", "DYNPROMPT", "EXTRA_PNGINFO", "UNIQUE_ID", "AUTH_TOKEN_COMFY_ORG", "API_KEY_COMFY_ORG"})
"""Hidden inputs that the engine fills in. A pack's own ones get what the workflow gives them."""

DEFAULT_CATEGORY = "sd"


class UnfitClass(LimnerError):
    """A node class that cannot be used; says what is wrong with it."""


class ClassNode(NodeType):
    """A node class of a pack. One object of the class serves a node of a workflow, from run to run."""

    def __init__(self, node_class: Any, spec: NodeSpec) -> None:
        self.node_class = node_class
        self.spec = spec
        self.is_async = inspect.iscoroutinefunction(getattr(node_class, node_class.FUNCTION))
        self._hidden = {each.name: each for each in spec.inputs if each.kind == "hidden"}

    @classmethod
    def of(
        cls, name: str, node_class: Any, *, module: str, display_name: str | None = None, folders: Folders | None = None
    ) -> ClassNode:
        """Reads a class. Raises UnfitClass, with what its own code raised as the cause."""
        if not hasattr(node_class, "INPUT_TYPES"):
            raise UnfitClass(f"{name} has no INPUT_TYPES")
        try:
            spec = read_class(name, node_class, module, display_name, folders or Folders({}))
        except Exception as error:
            raise UnfitClass(f"{name}: {type(error).__name__}: {error}") from error
        return cls(node_class, spec)

    def instance(self) -> Any:
        return self.node_class()

    def input(self, name: str) -> InputSpec | None:
        """Declared ones, and those that the class takes by claiming to have them."""
        hidden = self._hidden.get(name)
        if hidden is not None:
            return None if hidden.type in FILLED else hidden
        return NodeType.input(self, name)

    def call(self, inputs: Mapping[str, Any], ctx: Any, instance: Any = None) -> Result | Awaitable[Result]:
        node = self.instance() if instance is None else instance
        returned = getattr(node, self.node_class.FUNCTION)(**self._given(inputs))
        if inspect.isawaitable(returned):
            return self._awaited(returned, ctx)
        return result_of(returned, len(self.spec.outputs), ctx)

    def wanted(self, inputs: Mapping[str, Any], ctx: Any, instance: Any = None) -> Any:
        """A class that does not say which lazy inputs it wants gets them all."""
        node = self.instance() if instance is None else instance
        ask = getattr(node, "check_lazy_status", None)
        if ask is None:
            return NodeType.wanted(self, inputs, ctx, instance)
        return ask(**self._given(inputs))

    def fingerprint(self, inputs: Mapping[str, Any], ctx: Any) -> Any:
        """IS_CHANGED, with those of the inputs that it takes."""
        offered = {**self._hidden_values(ctx), **inputs}
        return self.node_class.IS_CHANGED(**taken(self.node_class.IS_CHANGED, offered))

    def check(self, inputs: Mapping[str, Any], types: Mapping[str, Any]) -> Any:
        given = dict(inputs)
        if self.spec.validator is not None and self.spec.validator.types:
            given["input_types"] = dict(types)
        return self.node_class.VALIDATE_INPUTS(**given)

    async def _awaited(self, returned: Awaitable[Any], ctx: RunContext) -> Result:
        return result_of(await returned, len(self.spec.outputs), ctx)

    def _given(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Without hidden inputs of the pack's own that nobody gave a value."""
        own = {name for name, each in self._hidden.items() if each.type not in FILLED}
        return {name: value for name, value in inputs.items() if name not in own or value is not None}

    def _hidden_values(self, ctx: RunContext) -> dict[str, Any]:
        values = {"UNIQUE_ID": ctx.node.id, "PROMPT": ctx.prompt, "EXTRA_PNGINFO": ctx.extra_pnginfo}
        return {name: values[str(each.type)] for name, each in self._hidden.items() if each.type in values}


def read_class(name: str, node_class: Any, module: str, display_name: str | None, folders: Folders) -> NodeSpec:
    """What a class promises, as ComfyUI reads its attributes. May raise anything: INPUT_TYPES is the pack's code."""
    sections = node_class.INPUT_TYPES()
    if not isinstance(sections, Mapping):
        raise TypeError(f"INPUT_TYPES gives {type(sections).__name__}, not a dict")
    if not isinstance(getattr(node_class, "FUNCTION", None), str):
        raise TypeError("FUNCTION names no method")
    if not hasattr(node_class, node_class.FUNCTION):
        raise TypeError(f"there is no method {node_class.FUNCTION!r}, which FUNCTION names")
    tooltips = getattr(node_class, "OUTPUT_TOOLTIPS", None)
    return NodeSpec(
        name=name,
        display_name=display_name or name,
        category=str(getattr(node_class, "CATEGORY", DEFAULT_CATEGORY)),
        description=str(getattr(node_class, "DESCRIPTION", "") or ""),
        python_module=module,
        inputs=tuple(Reader(name, folders).inputs(sections)),
        outputs=outputs_of(node_class),
        output_node=getattr(node_class, "OUTPUT_NODE", False) is True,
        output_tooltips=None if tooltips is None else names(tooltips),
        input_is_list=bool(getattr(node_class, "INPUT_IS_LIST", False)),
        not_idempotent=bool(getattr(node_class, "NOT_IDEMPOTENT", False)),
        deprecated=bool(getattr(node_class, "DEPRECATED", False)),
        experimental=bool(getattr(node_class, "EXPERIMENTAL", False)),
        api_node=bool(getattr(node_class, "API_NODE", False)),
        open_inputs=any(is_open(sections.get(kind)) for kind in KINDS),
        fingerprinted=hasattr(node_class, "IS_CHANGED"),
        validator=validator_of(getattr(node_class, "VALIDATE_INPUTS", None)),
        kinds=tuple(str(kind) for kind in sections if kind in KINDS) or ("required",),
    )


def outputs_of(node_class: Any) -> tuple[OutputSpec, ...]:
    types = getattr(node_class, "RETURN_TYPES", ())
    types = [types] if isinstance(types, str) else list(types or ())
    called = list(getattr(node_class, "RETURN_NAMES", None) or ())
    lists = getattr(node_class, "OUTPUT_IS_LIST", None)
    lists = [lists] * len(types) if isinstance(lists, bool) else list(lists or ())
    found = []
    for slot, type_ in enumerate(types):
        shown = shown_type(type_)
        name = called[slot] if slot < len(called) else shown if isinstance(shown, str) else type_
        found.append(
            OutputSpec(
                name=name if isinstance(name, str) else str(as_json(name)),
                type=shown,
                is_list=slot < len(lists) and bool(lists[slot]),
                any_type=is_any(type_),
            )
        )
    return tuple(found)


def is_open(section: Any) -> bool:
    """Whether a dict of inputs claims to have one of any name."""
    if not isinstance(section, Mapping) or type(section) is dict:
        return False
    try:
        return "an input that no node declares" in section
    except Exception:  # the pack's own code
        return False


def validator_of(function: Callable[..., Any] | None) -> ValidatorSpec | None:
    """What a class's own check looks at, read from its parameters."""
    if function is None:
        return None
    parameters = inspect.signature(function).parameters.values()
    named = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    return ValidatorSpec(
        inputs=tuple(name for name in named if name not in ("input_types", "cls", "self", "s")),
        all_inputs=any(each.kind is each.VAR_KEYWORD for each in parameters),
        types="input_types" in named,
    )


def taken(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return dict(offered)
    return {name: offered[name] for name in parameters if name in offered}
