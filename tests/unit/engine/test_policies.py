"""Cache policies: what is kept from run to run, within the budget and for its tenant alone."""

from __future__ import annotations

from typing import Any

import pytest

from limner.engine.cache import Cached, OutputCache
from limner.engine.policy import CachePolicy


def result() -> Cached:
    return Cached(values=([1],), ui=None, meta={})


def cache(policy: str, budget_bytes: int | None = None) -> OutputCache:
    """Every result counts one byte."""
    made = CachePolicy.parse(policy)
    if budget_bytes is not None:
        made = CachePolicy(kind=made.kind, most=made.most, budget_bytes=budget_bytes)
    return OutputCache(size_of=lambda values: 1, policy=made)


def run(here: OutputCache, keys: str, tenant: str = "a") -> str:
    """A run of nodes of one letter each. Gives those that had to be made."""
    here.begin(tenant, list(keys))
    made = ""
    for key in keys:
        if here.find(tenant, key) is None:
            here.put(tenant, key, result())
            made += key
    return made


@pytest.mark.parametrize(
    ("policy", "made"),
    [
        ("classic", ["abc", "de", "abc"]),  # what the second run does not name is dropped
        ("lru=5", ["abc", "de", ""]),
        ("lru=3", ["abc", "de", ""]),  # more than three are dropped only when a run begins that does not name them
        ("lru=1", ["abc", "de", "ab"]),
        ("ram=1", ["abc", "de", ""]),
        ("none", ["abc", "de", "abc"]),
    ],
)
def test_what_the_same_workflow_finds_after_another(policy: str, made: list[str]) -> None:
    here = cache(policy)
    assert [run(here, keys) for keys in ("abc", "de", "abc")] == made


def test_of_the_last_used_results_so_many_are_kept_when_a_run_begins() -> None:
    here = cache("lru=3")
    run(here, "abc")
    run(here, "a")
    run(here, "d")
    run(here, "e")
    here.begin("a", [])
    assert [key for key in "abcde" if here.find("a", key)] == ["a", "d", "e"]


def test_a_run_never_loses_what_it_names_itself_by_the_count() -> None:
    here = cache("lru=2")
    assert run(here, "abcdef") == "abcdef"
    assert run(here, "abcdef") == ""


def test_counts_are_each_tenants_own() -> None:
    here = cache("lru=2")
    run(here, "ab", "a")
    run(here, "cd", "b")
    assert run(here, "ab", "a") == ""


@pytest.mark.parametrize("policy", ["classic", "lru=100", "ram=1"])
def test_no_policy_keeps_more_than_the_budget(policy: str) -> None:
    here = cache(policy, budget_bytes=4)
    for tenant in "abc":
        run(here, "abcdef", tenant)
        assert here.size_bytes == len(here) <= 4


@pytest.mark.parametrize("policy", ["classic", "lru=1"])
def test_what_ran_in_a_nodes_place_is_kept_and_dropped_with_it(policy: str) -> None:
    here = cache(policy)
    here.put("a", "parent", result())
    here.put("a", "child", result(), under="parent")
    here.begin("a", ["parent"])
    assert here.find("a", "child") is not None
    here.begin("a", ["other"])
    here.begin("a", ["other"])
    assert len(here) <= 1


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("classic", CachePolicy()),
        ("none", CachePolicy(kind="none")),
        ("lru=20", CachePolicy(kind="lru", most=20)),
        ("ram=0.5", CachePolicy(kind="ram", budget_bytes=512 * 1024**2)),
    ],
)
def test_policies_are_read(text: str, policy: CachePolicy) -> None:
    assert CachePolicy.parse(text) == policy


@pytest.mark.parametrize(
    "text", ["", "lru", "lru=0", "lru=-1", "lru=1.5", "ram=0", "ram=x", "ram=inf", "ram=nan", "classic=1", "all"]
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        CachePolicy.parse(text)


def test_an_option_gives_the_setting(tmp_path: Any) -> None:
    from limner.cli.caching import cache_policy
    from limner.errors import Misconfigured
    from limner.settings import Settings

    assert cache_policy(None, None, False) is None
    for given, text in (((5, None, False), "lru=5"), ((None, 1.5, False), "ram=1.5"), ((None, None, True), "none")):
        policy = cache_policy(*given)
        settings = Settings.from_env({}, data_dir=tmp_path, cache=policy)
        assert (policy, settings.cache) == (text, text)
        CachePolicy.parse(Settings.from_env(settings.to_env()).cache)
    with pytest.raises(Misconfigured, match="--cache-lru and --cache-none exclude each other"):
        cache_policy(5, None, True)
    for wrong in ("lru=0", "lru=x", "ram=0", "ram=0.0", "ram=-1", "other"):
        with pytest.raises(Misconfigured):
            Settings.from_env({"LIMNER_CACHE": wrong}, data_dir=tmp_path)
