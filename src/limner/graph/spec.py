"""What a kind of node promises: NodeSpec, and its inputs and outputs. Data, without the node's code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from limner.graph.types import ANY, COMBO, FOLLOWING, InputType, is_box

KINDS = ("required", "optional", "hidden")
CORE_MODULES = frozenset({"nodes", "comfy_extras", "comfy_api_nodes"})
"""Where ComfyUI's own nodes come from, by the first part of `python_module`."""

SHOWN = frozenset({
    "input", "input_order", "output", "output_is_list", "output_name", "name", "display_name", "description",
    "python_module", "category", "output_node", "output_tooltips", "deprecated", "experimental", "api_node", "limner",
})  # fmt: skip
"""The keys of an /object_info entry that a NodeSpec has a field for, and `limner`, where `to_json` puts the rest."""


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


def undeclared(name: str) -> InputSpec:
    """An input of a node that takes inputs of any name."""
    return InputSpec(name=name, type=ANY, kind="optional", any_type=True)
