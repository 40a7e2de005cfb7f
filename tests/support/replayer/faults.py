"""What can go wrong with the replayed ComfyUI, and what an older one cannot do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Faults:
    """Nothing goes wrong unless it is set here. A test may change any of it at any time."""

    pace_seconds: float = 0.0  # between two events of a run
    hold_after: int | None = None  # a run stops after that many events, until `release()` or an interrupt
    drop_sockets_after: int | None = None  # once: after that many events every socket breaks, without a goodbye
    mute_after: int | None = None  # a run's later events reach nobody
    refuse_sockets: int = 0  # that many handshakes are answered 500
    deaf: bool = False  # interrupts are taken, and do nothing
    history_late: int = 0  # that many looks at a finished prompt's history find nothing yet
    history_never: bool = False
    full_disk: bool = False  # uploads fail as they do where the disk is full
    cut_views: list[int] = field(default_factory=list)  # the next /view answers break off after that many bytes
    slow_view_seconds: float = 0.0  # before each quarter of a /view answer
    answers: dict[str, list[int]] = field(default_factory=dict)  # path -> statuses that its next requests get
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Lets a held run go on, and holds no other."""
        self.hold_after = None
        self._released.set()

    async def held(self, sent: int) -> None:
        """Returns once the run that has sent so many events may go on."""
        if self.hold_after is not None and sent >= self.hold_after:
            self._released.clear()
            await self._released.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What a release can do. The recorded one can do all of it."""

    name: str = "0.3.64"
    takes_prompt_id: bool = True
    interrupts_by_id: bool = True
    tells_progress_state: bool = True
    tells_real_nodes: bool = True  # display_node in events, python_module in /object_info
    has_features: bool = True  # GET /features, feature_flags, previews with metadata
    takes_targets: bool = True  # partial_execution_targets


OLD = Version(
    name="0.3.40",
    takes_prompt_id=False,
    interrupts_by_id=False,
    tells_progress_state=False,
    tells_real_nodes=False,
    has_features=False,
    takes_targets=False,
)
