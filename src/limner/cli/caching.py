"""The options that say which results of nodes an engine keeps between runs."""

from __future__ import annotations

from typing import Annotated

import typer

from limner.errors import Misconfigured

CacheLru = Annotated[
    int | None,
    typer.Option("--cache-lru", metavar="N", help="Keep the N results of nodes that were used last, across workflows."),
]
CacheRam = Annotated[
    float | None,
    typer.Option("--cache-ram", metavar="GB", help="Keep results of nodes across workflows, up to so many gigabytes."),
]
CacheNone = Annotated[
    bool, typer.Option("--cache-none", help="Keep no results of nodes.  [default: those that the last workflow names]")
]


def cache_policy(lru: int | None, ram: float | None, none: bool) -> str | None:
    """The setting that the options stand for; None where none was given. Raises Misconfigured for two at once."""
    chosen = {
        "--cache-lru": None if lru is None else f"lru={lru}",
        "--cache-ram": None if ram is None else f"ram={ram:g}",
        "--cache-none": "none" if none else None,
    }
    given = {option: policy for option, policy in chosen.items() if policy is not None}
    if len(given) > 1:
        raise Misconfigured(f"{' and '.join(given)} exclude each other: an engine keeps results in one way; give one")
    return next(iter(given.values()), None)
