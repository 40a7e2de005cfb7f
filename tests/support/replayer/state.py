"""What the replayed server knows: a queue and a history, which a restart forgets, and folders, which it keeps."""

from __future__ import annotations

import asyncio
import hashlib
import re
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from tests.support.replayer.script import FileKey, Script


@dataclass(slots=True, kw_only=True)
class Prompt:
    """`exact`: the script was recorded of this very graph, so that the recorded files are its own."""

    number: float
    id: str
    graph: dict[str, Any]
    extra_data: dict[str, Any]
    script: Script
    exact: bool

    @property
    def client(self) -> str | None:
        return self.extra_data.get("client_id")

    def item(self) -> list[Any]:
        targets = [each for each in self.script.targets if each in self.graph]
        return [self.number, self.id, self.graph, self.extra_data, targets]


@dataclass(slots=True)
class Memory:
    """`node`: the node that runs. `interrupted`: the flag that /interrupt sets and each prompt's start clears."""

    counter: int = 0
    running: Prompt | None = None
    pending: list[Prompt] = field(default_factory=list)
    history: dict[str, dict[str, Any]] = field(default_factory=dict)
    node: str | None = None
    interrupted: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def remaining(self) -> int:
        return len(self.pending) + (self.running is not None)

    def add(self, prompt: Prompt) -> None:
        self.pending.append(prompt)
        self.pending.sort(key=lambda each: (each.number, each.id))
        self.arrived.set()

    async def next(self) -> Prompt:
        """The prompt whose turn it is. It runs from now on."""
        while not self.pending:
            self.arrived.clear()
            await self.arrived.wait()
        self.running = self.pending.pop(0)
        self.interrupted.clear()
        self.node = None
        return self.running


class Folders:
    """The files of the input, output and temp folder, by type, subfolder and name."""

    def __init__(self) -> None:
        self.files: dict[FileKey, bytes] = {}

    def save(self, key: FileKey, content: bytes) -> str:
        """Stores an output without touching another: the name that it got, the next number where its own is taken."""
        kind, subfolder, name = key
        while (found := self.files.get((kind, subfolder, name))) is not None and found != content:
            name = _next(name)
        self.files[kind, subfolder, name] = content
        return name

    def upload(self, key: FileKey, content: bytes, *, overwrite: bool) -> str:
        """Stores an upload as WIRE 2.8 says: `STEM (1).EXT` where the name has other bytes already."""
        kind, subfolder, name = key
        stem, dot, extension = name.rpartition(".") if "." in name else (name, "", "")
        count = 0
        while not overwrite and self.files.get((kind, subfolder, name), content) != content:
            count += 1
            name = f"{stem} ({count}){dot}{extension}"
        self.files[kind, subfolder, name] = content
        return name

    def wipe_temp(self) -> None:
        self.files = {key: content for key, content in self.files.items() if key[0] != "temp"}


def _next(name: str) -> str:
    counted = re.fullmatch(r"(.*_)(\d+)(_\..*)", name)
    return f"{counted[1]}{int(counted[2]) + 1:05}{counted[3]}" if counted else f"1_{name}"


def made_picture(seed: str) -> bytes:
    """A small PNG that differs for each seed, for files whose bytes nobody recorded."""
    digest = hashlib.sha256(seed.encode()).digest()
    header = struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)
    rows = b"\0" + digest[:6] + b"\0" + digest[6:12]
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    parts = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
