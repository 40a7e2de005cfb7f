"""Lanes: which jobs share models, so that a worker that holds them can take those first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

ANY = "any"


def lane_of(models: Iterable[str]) -> str:
    """The lane of jobs that load these base weights; ANY for a job that loads none."""
    names = sorted(set(models))
    if not names:
        return ANY
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
