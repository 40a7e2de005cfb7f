"""Schema, NodeOutput and ComfyNode: a node class in the schema style."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from limner.compat.api.inputs import Input, Output
from limner.errors import LimnerError
from limner.graph.blocker import ExecutionBlocker


class UnfitSchema(LimnerError):
    """A schema that contradicts itself."""


class Hidden(StrEnum):
    """What the engine fills in."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"
    auth_token_comfy_org = "AUTH_TOKEN_COMFY_ORG"  # noqa: S105 - a name
    api_key_comfy_org = "API_KEY_COMFY_ORG"


class HiddenHolder:
    """`cls.hidden` while a node runs: what was asked for, and None for the rest."""

    unique_id: str | None
    prompt: Any
    extra_pnginfo: Any
    dynprompt: Any
    auth_token_comfy_org: str | None
    api_key_comfy_org: str | None

    def __init__(self, **values: Any) -> None:
        for each in Hidden:
            setattr(self, each.name, values.get(each.name))


@dataclass(kw_only=False)
class Schema:
    """What a node is called, takes and gives."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: Sequence[Input] = field(default_factory=list)
    outputs: Sequence[Output] = field(default_factory=list)
    hidden: Sequence[Hidden] = field(default_factory=list)
    description: str = ""
    search_aliases: Sequence[str] = field(default_factory=list)
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_dev_only: bool = False
    is_api_node: bool = False
    price_badge: Any = None
    not_idempotent: bool = False
    enable_expand: bool = False
    accept_all_inputs: bool = False
    essentials_category: str | None = None
    has_intermediate_output: bool = False

    def validate(self) -> None:
        """Raises UnfitSchema where an id is there twice."""
        ids = [each.id for each in self.inputs] + [each.id for each in self.outputs if each.id]
        twice = next((each for each in ids if ids.count(each) > 1), None)
        if twice is not None:
            raise UnfitSchema(f"node {self.node_id} has the id {twice!r} twice among its inputs and outputs")

    def finalize(self) -> None:
        """Fills in what follows from the rest."""
        self.hidden = list(self.hidden or ())
        if self.is_output_node:
            for each in (Hidden.prompt, Hidden.extra_pnginfo):
                if each not in self.hidden:
                    self.hidden.append(each)
        if self.is_api_node:
            for each in (Hidden.auth_token_comfy_org, Hidden.api_key_comfy_org):
                if each not in self.hidden:
                    self.hidden.append(each)
        for slot, output in enumerate(self.outputs):
            if output.id is None:
                output.id = f"_{slot}_{output.get_io_type()}_"


class NodeOutput:
    """What `execute` gives: values, something to show, a graph in the node's place, or a reason why all is blocked."""

    def __init__(
        self,
        *args: Any,
        ui: Any = None,
        expand: dict[str, Any] | None = None,
        block_execution: str | None = None,
    ) -> None:
        self.args = args
        self.ui = ui
        self.expand = expand
        self.block_execution = block_execution

    @property
    def result(self) -> tuple[Any, ...] | None:
        return self.args or None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NodeOutput:
        result = data.get("result")
        if isinstance(result, ExecutionBlocker):
            return cls(result, ui=data.get("ui"), expand=data.get("expand"))
        return cls(*(result or ()), ui=data.get("ui"), expand=data.get("expand"))

    def __getitem__(self, slot: int) -> Any:
        return self.args[slot]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.args)

    def __len__(self) -> int:
        return len(self.args)


class _Locked(type):
    """A class whose attributes cannot be set: what a call keeps there, the next one would find."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise AttributeError(f"a node class is locked while it runs: {name} cannot be set on it")


class ComfyNode:
    """Base of node classes in the schema style. All methods are class methods."""

    SCHEMA: ClassVar[Schema | None] = None
    hidden: ClassVar[HiddenHolder] = HiddenHolder()

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError(f"{cls.__name__} has no define_schema")

    @classmethod
    def execute(cls, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{cls.__name__} has no execute")

    @classmethod
    def validate_inputs(cls, **kwargs: Any) -> bool | str:
        """Whether inputs fit; a subclass may say. This one is never asked."""
        return True

    @classmethod
    def fingerprint_inputs(cls, **kwargs: Any) -> Any:
        """What the result depends on beside the inputs; a subclass may say. This one is never asked."""
        return None

    @classmethod
    def check_lazy_status(cls, **kwargs: Any) -> list[str]:
        """Which lazy inputs are wanted; a subclass may say. This one is never asked."""
        return [name for name, value in kwargs.items() if value is None]

    @classmethod
    def GET_SCHEMA(cls) -> Schema:  # noqa: N802 - ComfyUI's name
        """The schema, checked and complete. Raises UnfitSchema."""
        schema = cls.define_schema()
        schema.validate()
        schema.finalize()
        cls.SCHEMA = schema
        return schema

    @classmethod
    def locked(cls, hidden: HiddenHolder) -> type[ComfyNode]:
        """This class for one call."""
        members = {"hidden": hidden, "__module__": cls.__module__}
        return _Locked(f"{cls.__name__}Clone", (cls,), members)  # type: ignore[return-value]  # it is one

    @classmethod
    def overrides(cls, method: str) -> bool:
        return getattr(cls, method).__func__ is not getattr(ComfyNode, method).__func__


class ComfyExtension:
    """What a pack's `comfy_entrypoint` gives."""

    async def on_load(self) -> None:
        """A subclass may do here what must be done once."""

    async def get_node_list(self) -> list[type[ComfyNode]]:
        raise NotImplementedError(f"{type(self).__name__} has no get_node_list")
