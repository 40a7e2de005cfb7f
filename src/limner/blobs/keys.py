"""Where bytes lie in a store. Every key begins with its tenant."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime


def attempt_prefix(tenant: str, job_id: str, token: str, created_at: datetime) -> str:
    """What the keys of one attempt's outputs start with, final `/` included."""
    day = created_at.astimezone(UTC)
    return f"t/{tenant}/jobs/{day:%Y/%m/%d}/{job_id}/{token}/"


def output_key(prefix: str, number: int, extension: str) -> str:
    """The `number`-th output of an attempt; `prefix` from attempt_prefix, `extension` with its dot."""
    return f"{prefix}{number}{extension}"


def input_key(tenant: str, sha256: str) -> str:
    return f"t/{tenant}/inputs/{sha256}"


def temp_key(tenant: str, subfolder: str, filename: str) -> str:
    """Temp files have no row in SQL; their name alone leads to them."""
    name = f"{subfolder}/{filename}"
    return f"t/{tenant}/temp/{hashlib.sha256(name.encode()).hexdigest()}"
