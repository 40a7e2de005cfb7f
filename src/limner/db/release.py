"""Which job is next: fairness picks the tenant, then priority, number and arrival pick that tenant's job.

A job's `vft` is a slot in the common line, given at insert. The smallest slot says whose turn it is; that tenant's
first job takes it, and leaves its own slot to the job it passed.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from limner.db.hot import Hot

AGE_SECONDS = 60.0
"""A job that others keep passing gains one step of priority each time this has gone by."""

MOST_AVOIDING = 256
"""So many jobs that wait for another worker may be out beside the window; more take its room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A job whose token is to be on the bus (or, of a recalled one, to be taken back)."""

    id: str
    pool: str
    lane: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """`free`: tokens that may still go out. `waiting`: a job is queued that could take one."""

    free: int
    waiting: bool


# A partial index serves only those who repeat its condition: hence the lists of states beside a single one.
# Jobs that wait for another worker than those that cannot run them take no room from those that all can run, as long
# as they are not very many: those workers meet their tokens again and again.
_ROOM = Hot(
    """
    SELECT (
            SELECT count(*) FROM jobs
            WHERE pool = :pool AND state IN ('released', 'running', 'canceling') AND state = 'released'
                AND avoid = '{}'
        ) AS released,
        (
            SELECT count(*) FROM jobs
            WHERE pool = :pool AND state IN ('released', 'running', 'canceling') AND state = 'released'
                AND avoid <> '{}'
        ) AS avoiding,
        EXISTS (SELECT 1 FROM jobs WHERE pool = :pool AND state = 'queued' AND run_at <= limner_now()) AS waiting
    """
)


def room(connection: Connection, pool: str, window: int) -> Room:
    row = _ROOM.one(connection, {"pool": pool})
    taken = row["released"] + max(row["avoiding"] - MOST_AVOIDING, 0)
    return Room(free=max(window - taken, 0), waiting=bool(row["waiting"]))


_NEXT = Hot(
    """
    WITH slot AS (
        SELECT seq, tenant, vft FROM jobs
        WHERE pool = :pool AND state = 'queued' AND run_at <= limner_now() ORDER BY vft LIMIT 1
    )
    SELECT turn.seq, turn.vft, slot.seq AS slot_seq, slot.vft AS slot_vft
    FROM slot, jobs AS turn
    WHERE turn.pool = :pool AND turn.tenant = slot.tenant AND turn.state = 'queued' AND turn.run_at <= limner_now()
    ORDER BY turn.rank DESC, turn.number, turn.seq LIMIT 1
    """
)
_RELEASE = Hot(
    """
    UPDATE jobs SET state = 'released', vft = :vft, changed_at = limner_now()
    WHERE seq = :seq AND state = 'queued' RETURNING id, lane, epoch
    """
)
_SWAP = Hot("UPDATE jobs SET vft = :vft WHERE seq = :seq")
_CLOCK = Hot(
    """
    INSERT INTO pools (pool, vft) VALUES (:pool, :vft)
    ON CONFLICT (pool) DO UPDATE SET vft = excluded.vft WHERE pools.vft < excluded.vft
    """
)


def release(connection: Connection, pool: str, free: int) -> list[Released]:
    """Releases the next jobs, `free` at the most, in the order in which they may start."""
    released: list[Released] = []
    while len(released) < free:
        turn = _NEXT.find(connection, {"pool": pool})
        if turn is None:
            break
        row = _RELEASE.find(connection, {"seq": turn["seq"], "vft": turn["slot_vft"]})
        if row is None:  # another gateway was faster
            continue
        if turn["slot_seq"] != turn["seq"]:
            _SWAP.run(connection, {"seq": turn["slot_seq"], "vft": turn["vft"]})
        move_clock(connection, pool, turn["slot_vft"])
        released.append(Released(id=row["id"], pool=pool, lane=row["lane"], epoch=row["epoch"]))
    return released


def move_clock(connection: Connection, pool: str, vft: float) -> None:
    """The pool's clock stands at the last slot that was released; tenants that were away begin from there."""
    _CLOCK.run(connection, {"pool": pool, "vft": vft})


_RECALL = Hot(
    """
    UPDATE jobs SET state = 'queued', epoch = epoch + 1, changed_at = limner_now()
    WHERE pool = :pool AND state IN ('released', 'running', 'canceling') AND state = 'released' AND tenant = :tenant
        AND (rank < :rank OR (rank = :rank AND number > :number))
    RETURNING id, lane, epoch
    """
)


def recall(connection: Connection, tenant: str, pool: str, *, rank: int, number: float) -> list[Released]:
    """Puts back the tenant's released jobs that a new job sorts before. Their tokens are to be purged."""
    rows = _RECALL.all(connection, {"tenant": tenant, "pool": pool, "rank": rank, "number": number})
    return [Released(id=row["id"], pool=pool, lane=row["lane"], epoch=row["epoch"]) for row in rows]


_AGE = text(
    """
    UPDATE jobs SET rank = rank + 1, ranked_at = limner_now()
    WHERE pool = :pool AND state = 'queued' AND ranked_at <= limner_now() - :age AND rank < (
        SELECT other.rank FROM jobs AS other
        WHERE other.pool = :pool AND other.tenant = jobs.tenant AND other.state = 'queued'
        ORDER BY other.rank DESC LIMIT 1)
    """
)


def raise_the_passed(connection: Connection, pool: str) -> int:
    """Raises by one step jobs that have waited long behind others of higher priority, so that none starves.

    Jobs of equal priority keep their order: nobody passes them.
    """
    return connection.execute(_AGE, {"pool": pool, "age": AGE_SECONDS}).rowcount


@dataclass(frozen=True, slots=True, kw_only=True)
class Out:
    """A job that should have a token on the bus. `age`: seconds since it changed."""

    id: str
    age: float
    epoch: int
    state: str
    worker: str | None
    token: str | None


_OUT_FOR = text(
    """
    SELECT id, limner_now() - changed_at AS age, epoch, state, worker, token FROM jobs
    WHERE pool = :pool AND state IN ('released', 'running', 'canceling') AND changed_at <= limner_now() - :age
    """
)


def out_for(connection: Connection, pool: str, age_seconds: float) -> list[Out]:
    """Jobs that have been out, unchanged, for at least this long."""
    rows = connection.execute(_OUT_FOR, {"pool": pool, "age": age_seconds})
    return [Out(**row._mapping) for row in rows]
