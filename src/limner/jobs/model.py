"""A job and its parts: frozen values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

LANE_ANY = "any"
"""The lane of jobs without base weights, and of every job while there is but one worker."""


class State(StrEnum):
    QUEUED = "queued"
    RELEASED = "released"  # a token is out; shown to callers as queued
    RUNNING = "running"
    CANCELING = "canceling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL

    @property
    def waiting(self) -> bool:
        return self in WAITING


WAITING = frozenset({State.QUEUED, State.RELEASED})
TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELED, State.EXPIRED})
OPEN = frozenset(State) - TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """An input file of a job: the reference as the workflow has it, and where its bytes lie."""

    reference: str
    key: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One execution, asked for once. `id` is a UUIDv7; `prompt_id` is the dialect client's own name for it."""

    id: str
    tenant: str
    pool: str
    lane: str
    prompt_id: str
    client_id: str | None
    number: float
    number_given: bool  # the caller chose the number (shown as a float then)
    priority: int
    workflow: dict[str, Any]  # API format, literals converted
    outputs: tuple[str, ...]  # the output nodes to run
    extra_data: dict[str, Any]  # as submitted, without secrets
    inputs: tuple[InputFile, ...]
    state: State
    epoch: int
    attempts: int
    token: str | None  # fencing token of the running attempt
    worker: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    result: dict[str, Any] | None  # {"outputs": {...}, "meta": {...}} of the last attempt that ended
    messages: tuple[tuple[str, dict[str, Any]], ...] = ()  # history's status messages
    error: dict[str, Any] | None = None
    models: tuple[str, ...] = field(default=())
    delivery: str | None = None  # the delivery under which the running attempt was claimed
    losses: int = 0  # workers that vanished while they had this job
    avoid: Mapping[str, str] = field(default_factory=dict)  # workers that could not run it: id -> catalogue digest
