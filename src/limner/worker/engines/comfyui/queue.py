"""A ComfyUI's queue: what runs, what waits, and which of it is whose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One prompt of a queue or of the history. `job`, `token` and so on are empty where it is not Limner's.

    `worker` and `deployment` have put it there: two Limners that drive one ComfyUI may have workers of one name.
    """

    prompt_id: str
    client_id: str = ""
    job: str = ""
    token: str = ""
    worker: str = ""
    deployment: str = ""

    @classmethod
    def read(cls, raw: Any) -> Item | None:
        """From `[number, prompt_id, prompt, extra_data, outputs]`; None for anything else."""
        if not isinstance(raw, list) or len(raw) < 2:
            return None
        extra = raw[3] if len(raw) > 3 and isinstance(raw[3], dict) else {}
        mark = extra.get("limner")
        ours = mark if isinstance(mark, dict) else {}
        return cls(
            prompt_id=str(raw[1]),
            client_id=_text(extra, "client_id"),
            job=_text(ours, "job"),
            token=_text(ours, "token"),
            worker=_text(ours, "worker"),
            deployment=_text(ours, "deployment"),
        )

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any]) -> Item | None:
        """From a history entry."""
        return cls.read(entry.get("prompt"))


@dataclass(frozen=True, slots=True)
class Queue:
    running: tuple[Item, ...] = field(default=())
    waiting: tuple[Item, ...] = field(default=())

    @classmethod
    def read(cls, raw: Any) -> Queue:
        """From the answer of GET /queue. What cannot be read is not in it."""
        told = raw if isinstance(raw, dict) else {}
        return cls(_items(told.get("queue_running")), _items(told.get("queue_pending")))

    def __iter__(self) -> Iterator[Item]:
        yield from self.running
        yield from self.waiting

    def runs(self, prompt_id: str) -> bool:
        return any(item.prompt_id == prompt_id for item in self.running)

    def holds(self, prompt_id: str) -> bool:
        return any(item.prompt_id == prompt_id for item in self)


def _items(raw: Any) -> tuple[Item, ...]:
    found = (Item.read(each) for each in raw) if isinstance(raw, list) else ()
    return tuple(item for item in found if item is not None)


def _text(source: Mapping[str, Any], name: str) -> str:
    value = source.get(name)
    return value if isinstance(value, str) else ""
