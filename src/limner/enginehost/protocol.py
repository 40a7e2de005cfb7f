"""What the supervisor and the engine process say to each other: frames of plain data over a socketpair.

A frame is two big-endian 32-bit lengths, a JSON header of the first length, and a binary tail of the second
(a preview picture, the body of a request or an answer; mostly absent). `kind` in the header says which:

    to the engine    run, interrupt, watch, free, retract, reserved, check, route
    from the engine  info, event, reserve, keep, checked, routed, ended, fatal
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from limner.errors import LimnerError

LENGTHS = struct.Struct(">II")
MAX_FRAME_BYTES = 512 * 1024 * 1024

RUN = "run"  # RunRequest's members
INTERRUPT = "interrupt"  # run
WATCH = "watch"  # previews
FREE = "free"  # unload_models, free_memory
RETRACT = "retract"  # the last run's end was refused: its files are not kept
RESERVED = "reserved"  # run, call, ok, reason, names: the answer to reserve and keep
CHECK = "check"  # call, questions: what node classes say of inputs, asked beside a run
ROUTE = "route"  # call, asked (method, path, query, headers): a request to a handler of a node pack; its body: the tail
INFO = "info"  # info: EngineInfo's members; sent again when something in it changed
EVENT = "event"  # run, event (class name), data, files; the tail is a preview's picture
RESERVE = "reserve"  # run, call, subfolder, prefix, extension, count
KEEP = "keep"  # run, call, subfolder, filename, sha256: a file that a node has named itself
CHECKED = "checked"  # call, verdicts
ROUTED = "routed"  # call, answer (routed, status, headers, fault); its body: the tail
ENDED = "ended"  # run, outcome, end (the last event's members), outputs, meta, files, models
FATAL = "fatal"  # message: the engine cannot start, and ends


class ProtocolBroken(LimnerError):
    """The other side sent what is no frame. Only closing the connection helps."""


@dataclass(frozen=True, slots=True)
class Frame:
    header: dict[str, Any]
    tail: bytes = b""

    @property
    def kind(self) -> str:
        return str(self.header["kind"])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One run as the engine gets it. `inputs`: file reference -> local path. `folder`: where it writes its files."""

    run: int
    prompt_id: str
    tenant: str
    workflow: dict[str, Any]
    outputs: list[str]
    extra_data: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    folder: str
    previews: bool = False
    interrupted: bool = False  # asked to stop before it began
    job: str = ""  # the job's id, and the fencing token of this attempt
    token: str = ""
    resumed: bool = False  # this attempt may have begun under an earlier supervisor: look for it before beginning anew


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What an engine is. `ready`: it can run now; before that it still loads its libraries."""

    catalogue: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    devices: list[dict[str, Any]] = field(default_factory=list)
    python_version: str = ""
    pytorch_version: str = ""
    ready: bool = False
    kind: str = "limner"  # or "comfyui"
    version: str = ""
    ram_total: int = 0  # bytes, of the machine that it runs on
    ram_free: int = 0


def encode(header: dict[str, Any], tail: bytes = b"") -> bytes:
    """A frame's bytes. Values that JSON does not know are written as their text."""
    head = json.dumps(header, separators=(",", ":"), default=_plain).encode()
    return LENGTHS.pack(len(head), len(tail)) + head + tail


class Decoder:
    """Cuts a byte stream into frames. Raises ProtocolBroken for lengths or headers that make no sense."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._buffer += data
        while len(self._buffer) >= LENGTHS.size:
            head_length, tail_length = LENGTHS.unpack_from(self._buffer)
            end = LENGTHS.size + head_length + tail_length
            if end > MAX_FRAME_BYTES:
                raise ProtocolBroken(f"a frame of {end} bytes; the limit is {MAX_FRAME_BYTES}")
            if len(self._buffer) < end:
                return
            head = bytes(self._buffer[LENGTHS.size : LENGTHS.size + head_length])
            tail = bytes(self._buffer[LENGTHS.size + head_length : end])
            del self._buffer[:end]
            yield Frame(_header(head), tail)


def _header(head: bytes) -> dict[str, Any]:
    try:
        header = json.loads(head)
    except ValueError as error:
        raise ProtocolBroken(f"a frame whose header is not JSON: {error}") from error
    if not isinstance(header, dict) or "kind" not in header:
        raise ProtocolBroken("a frame whose header has no kind")
    return header


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | set | frozenset) else str(value)
