"""What nodes returned, kept from run to run by content key: per tenant, within a byte budget over all of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

SizeOf = Callable[[Any], int]

DEFAULT_BUDGET_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """A node's result. `meta` names the node that first made it."""

    values: tuple[Any, ...]
    ui: dict[str, list[Any]] | None
    meta: dict[str, Any]


class OutputCache:
    """Results by (tenant, key). Over its budget it drops what was used longest ago, whosever it is.

    A tenant never sees another's results. Each run of a tenant drops what its workflow does not name (`keep_only`).
    """

    def __init__(self, budget_bytes: int = DEFAULT_BUDGET_BYTES, size_of: SizeOf | None = None) -> None:
        self.budget_bytes = budget_bytes
        self.size_bytes = 0
        self._size_of = size_of or size_of_value
        self._entries: OrderedDict[tuple[str, str], tuple[Cached, int]] = OrderedDict()
        self._keys: dict[str, set[str]] = {}  # by tenant

    def __len__(self) -> int:
        return len(self._entries)

    def keep_only(self, tenant: str, keys: Collection[str]) -> None:
        """Drops what this tenant's next run does not name."""
        self.drop(tenant, self._keys.get(tenant, set()) - set(keys))

    def find(self, tenant: str, key: str) -> Cached | None:
        entry = self._entries.get((tenant, key))
        if entry is None:
            return None
        self._entries.move_to_end((tenant, key))
        return entry[0]

    def put(self, tenant: str, key: str, result: Cached) -> None:
        """Keeps a result, unless it alone is larger than the budget."""
        self.drop(tenant, (key,))
        size_bytes = self._size_of(result.values)
        if size_bytes > self.budget_bytes:
            return
        self._entries[tenant, key] = (result, size_bytes)
        self._keys.setdefault(tenant, set()).add(key)
        self.size_bytes += size_bytes
        while self.size_bytes > self.budget_bytes:
            (oldest_tenant, oldest_key), _ = next(iter(self._entries.items()))
            self.drop(oldest_tenant, (oldest_key,))

    def drop(self, tenant: str, keys: Iterable[str]) -> None:
        for key in keys:
            entry = self._entries.pop((tenant, key), None)
            if entry is not None:
                self.size_bytes -= entry[1]
                self._keys[tenant].discard(key)
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
