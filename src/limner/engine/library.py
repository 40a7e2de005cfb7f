"""NodeLibrary: the kinds of nodes that an engine can run, by class name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from limner.graph.kinds import NodeType
from limner.graph.node import kind_of
from limner.graph.spec import NodeSpec


class NodeLibrary(Mapping[str, NodeType]):
    """Node types by class name."""

    def __init__(self, kinds: Iterable[NodeType]) -> None:
        self._kinds = {kind.spec.name: kind for kind in kinds}

    @classmethod
    def of(cls, functions: Iterable[Callable[..., Any]]) -> NodeLibrary:
        """From functions that `@node` has marked."""
        return cls(map(kind_of, functions))

    def with_others(self, kinds: Mapping[str, NodeType]) -> NodeLibrary:
        """A library with these beside, under their names. Of two of one name this library's own stays."""
        return NodeLibrary({**kinds, **self._kinds}.values())

    @cached_property
    def specs(self) -> Mapping[str, NodeSpec]:
        return {name: kind.spec for name, kind in self._kinds.items()}

    def __getitem__(self, name: str) -> NodeType:
        return self._kinds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)
