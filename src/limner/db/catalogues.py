"""The last catalogue of each pool, so that workflows can be checked while no worker is up."""

from __future__ import annotations

from sqlalchemy import Connection, select, text

from limner.db.tables import catalogues

_STORE = text(
    """
    INSERT INTO catalogues (pool, digest, catalogue, offered_at) VALUES (:pool, :digest, :catalogue, limner_now())
    ON CONFLICT (pool) DO UPDATE SET digest = excluded.digest, catalogue = excluded.catalogue,
        offered_at = excluded.offered_at
    """
)


def store(connection: Connection, pool: str, digest: str, catalogue: str) -> None:
    connection.execute(_STORE, {"pool": pool, "digest": digest, "catalogue": catalogue})


def digest(connection: Connection, pool: str) -> str | None:
    return connection.execute(select(catalogues.c.digest).where(catalogues.c.pool == pool)).scalar_one_or_none()


def load(connection: Connection, pool: str) -> str | None:
    """The catalogue's JSON text."""
    return connection.execute(select(catalogues.c.catalogue).where(catalogues.c.pool == pool)).scalar_one_or_none()
