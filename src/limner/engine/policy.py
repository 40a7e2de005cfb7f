"""Which results are kept between runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

DEFAULT_BUDGET_BYTES = 2 * 1024**3
CLASSIC, LRU, RAM, NONE = "classic", "lru", "ram", "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """`classic`: of each tenant what its last workflow names. `lru`: besides, a tenant's `most` results used last.

    `ram`: whatever fits into the budget. `none`: nothing. None of them keeps more than `budget_bytes` in all.
    """

    kind: str = CLASSIC
    most: int = 0
    budget_bytes: int = DEFAULT_BUDGET_BYTES

    @classmethod
    def parse(cls, text: str) -> CachePolicy:
        """Reads `classic`, `none`, `lru=N` or `ram=GB`. Raises ValueError for anything else."""
        kind, _, value = text.partition("=")
        match kind:
            case "classic" | "none" if not value:
                return cls(kind=kind)
            case "lru" if value.isascii() and value.isdigit() and int(value) > 0:
                return cls(kind=kind, most=int(value))
            case "ram" if (gigabytes := float(value)) > 0 and math.isfinite(gigabytes):
                return cls(kind=kind, budget_bytes=int(gigabytes * 1024**3))
        raise ValueError(f"{text!r} is no cache policy: classic, lru=N, ram=GB or none")
