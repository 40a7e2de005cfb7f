"""OutputCache: a budget over all tenants, and nothing of one tenant for another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from limner.engine.cache import Cached, OutputCache, size_of_value


def result(value: Any = 1) -> Cached:
    return Cached(values=([value],), ui=None, meta={})


def cache(budget_bytes: int = 3) -> OutputCache:
    """Every result counts one byte."""
    return OutputCache(budget_bytes, size_of=lambda values: 1)


def test_what_was_used_longest_ago_goes_first_whosever_it_is() -> None:
    here = cache()
    for tenant, key in (("a", "1"), ("b", "1"), ("a", "2")):
        here.put(tenant, key, result())
    here.find("a", "1")
    here.put("b", "2", result())
    assert here.find("b", "1") is None
    assert [here.find(*each) for each in (("a", "1"), ("a", "2"), ("b", "2"))] == [result()] * 3


def test_a_run_drops_what_it_does_not_name_of_its_own_tenant_only() -> None:
    here = cache()
    for tenant, key in (("a", "1"), ("a", "2"), ("b", "1")):
        here.put(tenant, key, result())
    here.begin("a", ["2", "3"])
    assert (here.find("a", "1"), here.find("a", "2"), here.find("b", "1")) == (None, result(), result())
    assert here.size_bytes == 2


def test_the_size_is_right_when_results_are_replaced_dropped_and_cleared() -> None:
    here = OutputCache(1000, size_of=lambda values: values[0][0])
    here.put("a", "1", result(10))
    here.put("a", "1", result(30))
    here.put("a", "2", result(5))
    assert here.size_bytes == 35
    here.drop("a", ["1", "gone"])
    assert (here.size_bytes, len(here)) == (5, 1)
    here.clear()
    assert (here.size_bytes, len(here)) == (0, 0)


def test_a_result_larger_than_the_budget_is_not_kept_and_pushes_nothing_out() -> None:
    here = OutputCache(100, size_of=lambda values: values[0][0])
    here.put("a", "1", result(90))
    here.put("a", "2", result(101))
    assert (here.find("a", "1"), here.find("a", "2")) == (result(90), None)


@dataclass(eq=False)
class Tensor:
    nbytes: int


def test_sizes_are_found_inside_containers_and_counted_once() -> None:
    tensor = Tensor(10_000)
    value = ({"samples": tensor}, [[tensor, {"pooled": Tensor(500)}]], "text", object())
    assert 10_500 <= size_of_value(value) < 12_000


def test_a_container_that_holds_itself_has_a_size() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert size_of_value(circle) < 1000


@pytest.mark.parametrize("depth", [10, 100_000])
def test_depth_does_not_matter(depth: int) -> None:
    value: Any = Tensor(7)
    for _ in range(depth):
        value = [value]
    assert size_of_value(value) >= 7
