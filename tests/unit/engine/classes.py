"""Class-based nodes as a test needs them: what node packs are to the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from limner.graph.kinds import NodeType, Result
from limner.graph.spec import InputSpec, NodeSpec, OutputSpec, ValidatorSpec


class ClassNode(NodeType):
    """A node whose answers are given as functions; without `check` it has no validator."""

    def __init__(
        self,
        name: str,
        call: Callable[..., Any] = lambda instance, **inputs: Result(values=(sorted(inputs.items()),)),
        *,
        inputs: Mapping[str, str] = {"v": "*"},  # noqa: B006: never changed
        make: Callable[[], Any] = lambda: None,
        check: Callable[[dict[str, Any], dict[str, Any]], Any] | None = None,
        checks: ValidatorSpec | None = None,
        fingerprint: Callable[[dict[str, Any]], Any] | None = None,
        output: bool = False,
        whole: bool = False,
    ) -> None:
        self.spec = NodeSpec(
            name=name,
            display_name=name,
            category="toy",
            inputs=tuple(InputSpec(name=each, type=type_, any_type=type_ == "*") for each, type_ in inputs.items()),
            outputs=(OutputSpec(name="out", type="*"),),
            output_node=output,
            input_is_list=whole,
            fingerprinted=fingerprint is not None,
            validator=(checks or ValidatorSpec(all_inputs=True)) if check is not None else None,
        )
        self._call, self._make, self._check, self._fingerprint = call, make, check, fingerprint

    def instance(self) -> Any:
        return self._make()

    def call(self, inputs: Mapping[str, Any], ctx: Any, instance: Any = None) -> Any:
        return self._call(instance, **inputs)

    def fingerprint(self, inputs: Mapping[str, Any], ctx: Any) -> Any:
        assert self._fingerprint is not None
        return self._fingerprint(dict(inputs))

    def check(self, inputs: Mapping[str, Any], types: Mapping[str, Any]) -> Any:
        assert self._check is not None
        return self._check(dict(inputs), dict(types))
