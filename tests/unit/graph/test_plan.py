"""The plan: feeders before those they feed."""

from __future__ import annotations

import pytest

from limner.graph.plan import feeders_first


@pytest.mark.parametrize(
    ("roots", "graph", "expected"),
    [
        ("a", {"a": "bc", "b": "c"}, "cba"),
        ("ab", {"a": "x", "b": "x"}, "xab"),
        ("ba", {"a": "b"}, "ba"),
        ("a", {"a": "a"}, "a"),
        ("a", {"a": "b", "b": "ca", "c": "b"}, "cba"),
        ("", {}, ""),
    ],
)
def test_each_node_comes_once_and_after_what_feeds_it(roots: str, graph: dict[str, str], expected: str) -> None:
    assert "".join(feeders_first(roots, lambda each: graph.get(each, ""))) == expected
