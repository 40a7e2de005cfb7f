"""What nodes returned, kept from run to run by content key: per tenant, within a byte budget over all of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from limner.engine.policy import CLASSIC, DEFAULT_BUDGET_BYTES, LRU, NONE, CachePolicy

SizeOf = Callable[[Any], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """A node's result: a list of items for each output. `meta` names the node that first made it.

    `inner`: what nodes that ran in its place have shown, by their ids, each with its meta.
    """

    values: tuple[list[Any], ...]
    ui: dict[str, list[Any]] | None
    meta: dict[str, Any]
    inner: Mapping[str, tuple[dict[str, list[Any]], dict[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Entry:
    result: Cached
    size_bytes: int
    under: str


class OutputCache:
    """Results by (tenant, key). Over its budget it drops what was used longest ago, whosever it is.

    A tenant never sees another's results. What is kept from one run of a tenant to its next, the policy says.
    """

    def __init__(
        self,
        budget_bytes: int = DEFAULT_BUDGET_BYTES,
        size_of: SizeOf | None = None,
        *,
        policy: CachePolicy | None = None,
    ) -> None:
        """`policy` brings its own budget."""
        self.policy = policy or CachePolicy(budget_bytes=budget_bytes)
        self.budget_bytes = self.policy.budget_bytes
        self.size_bytes = 0
        self._size_of = size_of or size_of_value
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._keys: dict[str, OrderedDict[str, None]] = {}  # by tenant, what was used last at the end

    def __len__(self) -> int:
        return len(self._entries)

    def begin(self, tenant: str, keys: Collection[str]) -> None:
        """A run of this tenant begins that names these results: the policy drops others."""
        if self.policy.kind not in (CLASSIC, LRU):
            return
        wanted = frozenset(keys)
        mine = self._keys.get(tenant, OrderedDict())
        others = [key for key in mine if key not in wanted and self._entries[tenant, key].under not in wanted]
        if self.policy.kind == LRU:
            others = others[: max(0, len(mine) - self.policy.most)]
        self.drop(tenant, others)

    def find(self, tenant: str, key: str) -> Cached | None:
        entry = self._entries.get((tenant, key))
        if entry is None:
            return None
        self._entries.move_to_end((tenant, key))
        self._keys[tenant].move_to_end(key)
        return entry.result

    def put(self, tenant: str, key: str, result: Cached, *, under: str = "") -> None:
        """Keeps a result, unless it alone is larger than the budget.

        `under`: the key of the workflow's own node in whose place the node ran; with that one it is kept or dropped.
        """
        if self.policy.kind == NONE:
            return
        self.drop(tenant, (key,))
        size_bytes = self._size_of(result.values)
        if size_bytes > self.budget_bytes:
            return
        self._entries[tenant, key] = _Entry(result, size_bytes, under)
        self._keys.setdefault(tenant, OrderedDict())[key] = None
        self.size_bytes += size_bytes
        while self.size_bytes > self.budget_bytes:
            oldest_tenant, oldest_key = next(iter(self._entries))
            self.drop(oldest_tenant, (oldest_key,))

    def drop(self, tenant: str, keys: Iterable[str]) -> None:
        for key in keys:
            entry = self._entries.pop((tenant, key), None)
            if entry is not None:
                self.size_bytes -= entry.size_bytes
                del self._keys[tenant][key]
        if not self._keys.get(tenant, True):
            del self._keys[tenant]

    def clear(self) -> None:
        self._entries.clear()
        self._keys.clear()
        self.size_bytes = 0


def size_of_value(value: Any) -> int:
    """Bytes that a value holds: tensors and arrays by their `nbytes`, containers by what is in them.

    Other objects count as small. Loaded models are among these: their weights are not the cache's to hold or to free.
    """
    total = 0
    seen: set[int] = set()
    stack = [value]
    while stack:
        here = stack.pop()
        if isinstance(here, str | bytes):
            total += len(here)
        elif isinstance(here, dict | list | tuple | set):
            if id(here) not in seen:
                seen.add(id(here))
                stack.extend(here.values() if isinstance(here, dict) else here)
        elif id(here) not in seen:
            size_bytes = getattr(here, "nbytes", None)
            if isinstance(size_bytes, int):
                seen.add(id(here))
                total += size_bytes
        total += 64
    return total
