"""The releaser's own beat. Submits, claims and ends release what they make room for in their own transactions;
what is left is a job whose time has come, and room that another gateway or a new worker has made."""

from __future__ import annotations

from limner import logs
from limner.errors import Unavailable
from limner.services.release import Release

log = logs.get("limner.dispatch.releaser")

RELEASE_SECONDS = 0.5


async def release_quietly(release: Release) -> None:
    """One round; what is not reachable now is tried again in the next."""
    try:
        await release.run_once()
    except Unavailable as error:
        log.warning("nothing was released this time", error=error.message)
