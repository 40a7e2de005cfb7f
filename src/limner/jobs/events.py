"""What happens to a job, and what has to be done about it: what machine.decide takes, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimAsked:
    """A worker got a token from the bus and asks for the job. `new_token` is what it gets if a new attempt begins.

    `catalogue`: digest of what the worker can run. `resumed`: it was started again and only asks whether it may go
    on with what this delivery was granted before; no attempt begins and none is lost.
    """

    epoch: int
    worker: str
    delivery: str
    new_token: str
    now: datetime
    catalogue: str = ""
    resumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A worker tells how its attempt ended. `outcome` as in bus.messages.Done. `jitter`: 0..1, spreads retries.

    For "unfit" also `catalogue`, the digest of what the worker can run, and `workers`, the pool's live ones with
    theirs ("" where it is not known yet).
    """

    token: str
    outcome: str
    now: datetime
    result: dict[str, Any] | None = None
    messages: tuple[tuple[str, dict[str, Any]], ...] = ()
    error: dict[str, Any] | None = None
    models: tuple[str, ...] = ()
    jitter: float = 0.0
    catalogue: str = ""
    workers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked:
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMissing:
    """The sweep found no token on the bus for a job that should have one."""

    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NobodyCame:
    """The job has waited long for another worker than those that cannot run it. `workers` as in Reported."""

    now: datetime
    workers: Mapping[str, str]


Event = ClaimAsked | Reported | CancelAsked | TokenMissing | NobodyCame


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """Answer to a claim: the job is the worker's. `repeat`: it already was, by this same delivery."""

    repeat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Answer to a report. `repeat`: the same report was taken before; nothing changes."""

    repeat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Answer to a claim or a report: the worker acknowledges its token and forgets the job.

    `elsewhere`: the token is good, but for another worker; this one gives it back.
    """

    reason: str
    elsewhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """The attempt that held the job until now is over: close its record."""

    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAfter:
    """The job is queued again and may start after this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeToken:
    """A token of the job may still be on the bus: take it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptWorker:
    worker: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The job reached its last state. `hidden`: it never ran, and leaves no trace in the history."""

    hidden: bool = False


Effect = Granted | Accepted | Refused | AttemptEnded | RunAfter | PurgeToken | InterruptWorker | Ended
