"""Where bytes lie in a store. The keys of a tenant begin with it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

TENANTS = "t"
"""The folder of all tenants' folders."""


def job_prefix(tenant: str, job_id: str, created_at: datetime) -> str:
    """What the keys of all of a job's outputs start with, final `/` included."""
    day = created_at.astimezone(UTC)
    return f"{TENANTS}/{tenant}/jobs/{day:%Y/%m/%d}/{job_id}/"


def attempt_prefix(tenant: str, job_id: str, token: str, created_at: datetime) -> str:
    """What the keys of one attempt's outputs start with, final `/` included."""
    return f"{job_prefix(tenant, job_id, created_at)}{token}/"


def output_key(prefix: str, number: int, extension: str) -> str:
    """The `number`-th output of an attempt; `prefix` from attempt_prefix, `extension` with its dot."""
    return f"{prefix}{number}{extension}"


CATALOGUES = "catalogues"
"""The folder of node catalogues on their way from a worker to a gateway. They belong to no tenant."""


def catalogue_key(digest: str) -> str:
    """Where a catalogue's JSON lies that is too large for a message."""
    return f"{CATALOGUES}/{digest}.json"


ANSWERS = f"{CATALOGUES}/answer-"
"""What the keys of node packs' answers start with, which are collected as catalogues are."""


def answer_key(name: str) -> str:
    """Where the body of a node pack's answer lies that is too large for a message."""
    return f"{ANSWERS}{name}"


def input_key(tenant: str, sha256: str) -> str:
    return f"{TENANTS}/{tenant}/inputs/{sha256}"


def temp_prefix(tenant: str) -> str:
    """What the keys of a tenant's temp files start with, final `/` included."""
    return f"{TENANTS}/{tenant}/temp/"


def temp_key(tenant: str, subfolder: str, filename: str) -> str:
    """Temp files have no row in SQL; their name alone leads to them."""
    name = f"{subfolder}/{filename}"
    return f"{temp_prefix(tenant)}{hashlib.sha256(name.encode()).hexdigest()}"
