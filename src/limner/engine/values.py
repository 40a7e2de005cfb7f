"""The values between the nodes of a run: each is held as long as some node may still ask for it, and no longer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from limner.engine.cache import Cached
from limner.engine.mapping import Slots


class Values:
    """Results by node. `find` looks into the cache for what earlier runs, or equal nodes, have made."""

    def __init__(self, find: Callable[[str], Cached | None]) -> None:
        self._find = find
        self._results: dict[str, Cached] = {}
        self._holders: dict[str, int] = {}  # how many links still to be served each node has
        self._held: dict[str, list[str]] = {}  # what each node holds of others
        self._pinned: dict[str, Cached] = {}
        self._makers: dict[str, str] = {}  # key to the node that made it in this run

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._results

    def pin(self, results: Mapping[str, Cached]) -> None:
        """Results that must not be lost while the run's plan is made, whatever the cache drops."""
        self._pinned.update(results)

    def unpin(self, *, keep: Collection[str]) -> None:
        self._pinned = {node_id: self._pinned[node_id] for node_id in keep if node_id in self._pinned}

    def pinned(self, node_id: str) -> Cached | None:
        return self._pinned.get(node_id)

    def hold(self, holder: str, source: str) -> bool:
        """A node will ask for another's result. Whether that is there."""
        self._held.setdefault(holder, []).append(source)
        self._holders[source] = self._holders.get(source, 0) + 1
        if source not in self._results:
            found = self._pinned.get(source) or self._find(source)
            if found is not None:
                self._results[source] = found
        return source in self._results

    def keep(self, node_id: str, key: str, result: Cached) -> None:
        """The node is done: its result is kept if another holds it."""
        if self._holders.get(node_id):
            self._results[node_id] = result
            self._makers[key] = node_id

    def twin(self, key: str) -> Cached | None:
        """What an equal node of this run has made, while it is held."""
        return self._results.get(self._makers.get(key, ""))

    def slots(self, node_id: str) -> Slots | None:
        result = self._results.get(node_id)
        return None if result is None else result.values

    def release(self, holder: str) -> None:
        """The node asks for nothing more: what it alone held is let go; the cache may still keep it."""
        for source in self._held.pop(holder, ()):
            self._holders[source] -= 1
            if self._holders[source] == 0:
                del self._holders[source]
                self._results.pop(source, None)

    def clear(self) -> None:
        self._results.clear()
        self._pinned.clear()
        self._held.clear()
