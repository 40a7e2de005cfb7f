"""The catalogues that workers of each pool have offered, so that workflows can be checked while no worker is up."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, delete, func, select, text, update

from limner.db.tables import offered_catalogues as offered

KEPT_SECONDS = 7 * 86400.0
"""A worker that comes back within this time, as it was, need not hand its catalogue in again."""

KEPT = 8
"""So many catalogues of a pool are kept beside the current ones: a worker's may change each time it looks."""

_STORE = text(
    """
    INSERT INTO offered_catalogues (pool, digest, catalogue, current, seen_at)
    VALUES (:pool, :digest, :catalogue, false, limner_now())
    ON CONFLICT (pool, digest) DO UPDATE SET catalogue = excluded.catalogue, seen_at = excluded.seen_at
    """
)


def store(connection: Connection, pool: str, digest: str, catalogue: str) -> None:
    """catalogue: its JSON text."""
    connection.execute(_STORE, {"pool": pool, "digest": digest, "catalogue": catalogue})


def stored(connection: Connection, pool: str) -> dict[str, bool]:
    """The digests that are known, and whether each is current: announced by those workers that were seen last."""
    rows = connection.execute(select(offered.c.digest, offered.c.current).where(offered.c.pool == pool))
    return {row.digest: bool(row.current) for row in rows}


def load(connection: Connection, pool: str, digest: str) -> str | None:
    """The catalogue's JSON text."""
    wanted = select(offered.c.catalogue).where(offered.c.pool == pool, offered.c.digest == digest)
    return connection.execute(wanted).scalar_one_or_none()


def make_current(connection: Connection, pool: str, digests: Collection[str]) -> None:
    """These, and no others of the pool."""
    changed = update(offered).where(offered.c.pool == pool, offered.c.current | offered.c.digest.in_(digests))
    connection.execute(changed.values(current=offered.c.digest.in_(digests), seen_at=func.limner_now()))


def forget_unseen(connection: Connection) -> None:
    """Drops catalogues that nobody has announced for long, and all but a few of the others.

    Current ones stay, however long no worker is there.
    """
    other = offered.alias()
    later = select(func.count()).where(other.c.pool == offered.c.pool, ~other.c.current)
    later = later.where(other.c.seen_at > offered.c.seen_at)
    too_many = later.scalar_subquery() >= KEPT
    too_old = offered.c.seen_at < func.limner_now() - KEPT_SECONDS
    connection.execute(delete(offered).where(~offered.c.current, too_old | too_many))
