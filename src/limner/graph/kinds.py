"""A kind of node that can run: its spec, its code, and what a call of it may return."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limner.graph.blocker import ExecutionBlocker
from limner.graph.spec import InputSpec, NodeSpec, undeclared

CONTEXT = "ctx"
"""The parameter of a node function that gets the run's context instead of an input."""


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
