"""Rows into values and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from limner.db.tables import job_requests, job_results, jobs
from limner.jobs.model import InputFile, Job, State

JOB = tuple(jobs.c)
REQUEST = tuple(c for c in job_requests.c if c.name != "job")
RESULT = tuple(c for c in job_results.c if c.name != "job")


def to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def to_time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def time_of(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def to_seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def request_values(job: Job) -> dict[str, str]:
    """What goes into job_requests. Encoded by the caller's thread, so that the writing thread need not."""
    return {
        "workflow": to_json(job.workflow),
        "outputs": to_json(job.outputs),
        "extra_data": to_json(job.extra_data),
        "inputs": to_json([asdict(file) for file in job.inputs]),
    }


def to_job(r: Mapping[Any, Any]) -> Job:
    """A job from a row with the columns JOB, and with REQUEST and RESULT as far as they were selected.

    Without REQUEST its workflow, outputs, extra_data and inputs are empty; dispatch does not look at them.
    """
    return Job(
        id=r["id"],
        tenant=r["tenant"],
        pool=r["pool"],
        lane=r["lane"],
        prompt_id=r["prompt_id"],
        client_id=r["client_id"],
        number=r["number"],
        number_given=bool(r["number_given"]),
        priority=r["priority"],
        state=State(r["state"]),
        epoch=r["epoch"],
        attempts=r["attempts"],
        losses=r["losses"],
        token=r["token"],
        worker=r["worker"],
        delivery=r["delivery"],
        models=tuple(json.loads(r["models"])),
        avoid=json.loads(r["avoid"]),
        created_at=time_of(r["created_at"]),
        started_at=to_time(r["started_at"]),
        ended_at=to_time(r["ended_at"]),
        **_request(r),
        **_result(r),
    )


def _request(r: Mapping[Any, Any]) -> dict[str, Any]:
    if "workflow" not in r:
        return {"workflow": {}, "outputs": (), "extra_data": {}, "inputs": ()}
    return {
        "workflow": json.loads(r["workflow"]),
        "outputs": tuple(json.loads(r["outputs"])),
        "extra_data": json.loads(r["extra_data"]),
        "inputs": tuple(InputFile(**file) for file in json.loads(r["inputs"])),
    }


def _result(r: Mapping[Any, Any]) -> dict[str, Any]:
    if r.get("messages") is None:
        return {"result": None}
    return {
        "result": json.loads(r["result"]) if r["result"] is not None else None,
        "messages": tuple((name, data) for name, data in json.loads(r["messages"])),
        "error": json.loads(r["error"]) if r["error"] is not None else None,
    }
