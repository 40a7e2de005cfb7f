"""Which node runs next: nodes that still wait, nodes that are ready, and who is preferred among these."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count

OUTPUT, FEEDS_OUTPUT, TWO_BEFORE_OUTPUT, OTHER = range(4)


class Agenda:
    """The nodes that a run still has to do. Linear in nodes and links, but for the heap of ready ones.

    Among ready nodes an output node or an async one comes first, then one that feeds an output node, then one two steps
    before an output node, then the one that was added first: ComfyUI's order, in which pictures appear early.
    """

    def __init__(
        self,
        feeders: Callable[[str], Iterable[str]],
        is_output: Callable[[str], bool],
        is_async: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`feeders` names the nodes that must be done before one can run; it is asked once each time one is added."""
        self._ask_feeders = feeders
        self._is_output = is_output
        self._is_async = is_async
        self._positions = count()
        self._added: dict[str, int] = {}  # position
        self._done: set[str] = set()
        self._feeders: dict[str, list[str]] = {}
        self._waits_for: dict[str, int] = {}
        self._users: dict[str, list[str]] = {}
        self._rank: dict[str, int] = {}
        self._fresh: list[str] = []  # added, and not yet ranked
        self._ready: list[tuple[int, int, str]] = []

    def add(self, node_id: str) -> None:
        """Puts a node and all that feeds it on the agenda."""
        stack = [node_id]
        while stack:
            here = stack.pop()
            if here in self._added:
                continue
            self._added[here] = next(self._positions)
            feeders = self._feeders[here] = list(dict.fromkeys(self._ask_feeders(here)))
            waits_for = [each for each in feeders if each not in self._done]
            self._waits_for[here] = len(waits_for)
            for each in waits_for:
                self._users.setdefault(each, []).append(here)
            self._fresh.append(here)
            stack.extend(feeders)

    def block(self, node_id: str, feeders: Iterable[str]) -> None:
        """A node that had begun waits for these, added if they are new, and is ready again once they are done."""
        self._feeders[node_id] = list(dict.fromkeys(feeders))
        for each in self._feeders[node_id]:
            self.add(each)
            if self._rank[node_id] < TWO_BEFORE_OUTPUT:  # what it waits for stands as near to the output as it can
                self._rank[each] = min(self._rank.get(each, OTHER), self._rank[node_id] + 1)
        waits_for = [each for each in self._feeders[node_id] if each not in self._done]
        self._waits_for[node_id] = len(waits_for)
        for each in waits_for:
            self._users.setdefault(each, []).append(node_id)
        if not waits_for:
            self._push(node_id)

    def again(self, node_id: str) -> None:
        """A node that is done counts as never added: what it made is gone, and somebody is about to ask for it."""
        self._done.discard(node_id)
        self._added.pop(node_id, None)

    def is_done(self, node_id: str) -> bool:
        return node_id in self._done

    def next(self) -> str | None:
        """The node to run now; it counts as begun. None when nothing is ready."""
        if self._fresh:
            self._rank_fresh()
        return heappop(self._ready)[2] if self._ready else None

    def finish(self, node_id: str) -> None:
        """The node is done: what waited for it alone is ready."""
        self._done.add(node_id)
        for user in self._users.pop(node_id, ()):
            self._waits_for[user] -= 1
            if self._waits_for[user] == 0 and user in self._rank:
                self._push(user)

    def waiting(self) -> list[str]:
        """The nodes that are not done, in the order in which they were added."""
        return [node_id for node_id in self._added if node_id not in self._done]

    def _rank_fresh(self) -> None:
        fresh, self._fresh = self._fresh, []
        outputs = [node_id for node_id in fresh if self._is_output(node_id)]
        feeding = dict.fromkeys(feeder for output in outputs for feeder in self._feeders[output])
        before = dict.fromkeys(feeder for node_id in feeding for feeder in self._feeders[node_id])
        for nodes, rank in ((fresh, OTHER), (before, TWO_BEFORE_OUTPUT), (feeding, FEEDS_OUTPUT), (outputs, OUTPUT)):
            for node_id in nodes:
                self._rank[node_id] = min(self._rank.get(node_id, OTHER), rank)
        for node_id in fresh:
            if self._waits_for[node_id] == 0:
                self._push(node_id)

    def _push(self, node_id: str) -> None:
        rank = OUTPUT if self._is_async(node_id) else self._rank[node_id]
        heappush(self._ready, (rank, self._added[node_id], node_id))
