"""Every subject, stream and bucket name, in one place (docs/dispatch.md has the table)."""

from __future__ import annotations

CLAIM = "limner.rpc.claim"
DONE = "limner.rpc.done"
RESERVE = "limner.rpc.reserve"
KEEP = "limner.rpc.keep"
RESUME = "limner.rpc.resume"
CATALOGUE = "limner.rpc.catalogue"
WORKERS_BUCKET = "limner_workers"
GATEWAYS = "gateway"  # queue groups
WORKERS = "worker"


def stream(pool: str) -> str:
    return f"LIMNER_JOBS_{pool}"


def job(pool: str, lane: str, job_id: str) -> str:
    return f"limner.job.{pool}.{lane}.{job_id}"


def jobs_of(pool: str, lane: str = "*") -> str:
    return f"limner.job.{pool}.{lane}.*"


def wake(pool: str) -> str:
    return f"limner.wake.{pool}"


def control(worker: str) -> str:
    return f"limner.ctl.{worker}"


def check(pool: str) -> str:
    """Asks some worker of the pool what node classes say of inputs (messages Check, Checked)."""
    return f"limner.check.{pool}"


def route(worker: str) -> str:
    """Takes a request to the HTTP routes of a worker's node packs (messages Route, Routed)."""
    return f"limner.route.{worker}"


def events(tenant: str, job_id: str) -> str:
    return f"limner.ev.{tenant}.{job_id}"


def previews(tenant: str, job_id: str) -> str:
    return f"limner.pv.{tenant}.{job_id}"
