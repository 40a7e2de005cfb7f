"""Which nodes the wanted outputs need, in an order that can be run."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def feeders_first(roots: Iterable[str], feeders: Callable[[str], Iterable[str]]) -> list[str]:
    """The roots and all that feeds them, each after its feeders; each node once. Linear, without recursion.

    In a cycle, where there is no such order, the link that closes it is passed over.
    """
    seen: set[str] = set()
    order: list[str] = []
    for root in roots:
        if root in seen:
            continue
        seen.add(root)
        stack = [(root, iter(feeders(root)))]
        while stack:
            node, rest = stack[-1]
            following = next((each for each in rest if each not in seen), None)
            if following is None:
                stack.pop()
                order.append(node)
            else:
                seen.add(following)
                stack.append((following, iter(feeders(following))))
    return order
