"""What workers say about their attempts: claim, reserve, done. jobs/machine.py decides, this carries it out."""

from __future__ import annotations

from collections.abc import Callable

from limner.bus.messages import Claim, Claimed, Done, Reserve, Reserved, Settled
from limner.bus.port import Bus
from limner.db.session import Database
from limner.services.presence import Presence
from limner.services.release import Release

ExistingNumber = Callable[[str, str], int]
"""(subfolder, prefix) -> the largest number among files `PREFIX_NNNNN_...` in the readable output folder, 0 if none."""


class Attempts:
    def __init__(
        self, db: Database, bus: Bus, release: Release, presence: Presence, *, existing_number: ExistingNumber | None = None
    ) -> None: ...

    async def claim(self, asked: Claim) -> Claimed: ...

    async def reserve(self, asked: Reserve) -> Reserved: ...

    async def done(self, told: Done) -> Settled: ...
