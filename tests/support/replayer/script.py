"""One recorded run: the graph that asked for it, every event of it, its history entry and its files."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.recordings import recording

WORD = struct.Struct(">I")
FileKey = tuple[str, str, str]  # type, subfolder, filename


@dataclass(frozen=True, slots=True)
class Event:
    """A text frame. `to_all`: every socket got it, not only that of the prompt's client."""

    type: str
    data: dict[str, Any]
    to_all: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """A preview. `code`: 1 is JPEG, 2 is PNG. `meta`: what goes with it to those who asked for metadata."""

    image: bytes
    code: int
    meta: dict[str, Any]

    def plain(self) -> bytes:
        return WORD.pack(1) + WORD.pack(self.code) + self.image

    def with_metadata(self) -> bytes:
        head = json.dumps(self.meta).encode()
        return WORD.pack(4) + WORD.pack(len(head)) + head + self.image


@dataclass(frozen=True, slots=True)
class Text:
    node: str
    text: str

    def encode(self) -> bytes:
        node = self.node.encode()
        return WORD.pack(3) + WORD.pack(len(node)) + node + self.text.encode()


Frame = Event | Picture | Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """`frames`: from `execution_start` to `executing` null, without `status`, which the server counts itself."""

    name: str
    prompt_id: str
    graph: dict[str, Any]
    frames: tuple[Frame, ...]
    outputs: dict[str, Any]
    meta: dict[str, Any]
    status: dict[str, Any]
    targets: tuple[str, ...]
    node_errors: dict[str, Any] = field(default_factory=dict)
    files: dict[FileKey, bytes] = field(default_factory=dict)

    @property
    def cached(self) -> set[str]:
        """The nodes whose results an earlier prompt had made."""
        events = [f for f in self.frames if isinstance(f, Event) and f.type == "execution_cached"]
        return {node for event in events for node in event.data["nodes"]}

    @property
    def succeeded(self) -> bool:
        return bool(self.status["status_str"] == "success")

    def showing(self, ui: dict[str, Any], files: dict[FileKey, bytes]) -> Script:
        """The same run, but its output nodes show `ui`, and these files."""
        frames = tuple(
            replace(f, data=f.data | {"output": ui}) if isinstance(f, Event) and f.type == "executed" else f
            for f in self.frames
        )
        return replace(self, frames=frames, outputs=dict.fromkeys(self.outputs, ui), files=files)


def scripts(name: str) -> Iterator[Script]:
    """Each prompt of a transcript that was accepted and of which a client saw every event."""
    found = recording(name)
    files = dict(_files(found))
    for exchange in found["exchanges"]:
        asked, answer = exchange["request"], exchange["response"]
        if asked["method"] != "POST" or asked["path"] != "/prompt" or answer["status"] != 200:
            continue
        prompt_id = str(answer["json"]["prompt_id"])
        frames = _frames(found, prompt_id)
        if frames is None:
            continue
        entry = _entry(found, prompt_id) or _entry_of(frames, asked["json"]["prompt"])
        yield Script(
            name=name,
            prompt_id=prompt_id,
            graph=asked["json"]["prompt"],
            frames=frames,
            outputs=entry["outputs"],
            meta=entry["meta"],
            status=entry["status"],
            targets=tuple(entry["prompt"][4]),
            node_errors=answer["json"]["node_errors"],
            files=files,
        )


def _frames(found: dict[str, Any], prompt_id: str) -> tuple[Frame, ...] | None:
    for socket in found["websockets"]:
        events = socket["events"]
        marks = [(e["type"], e["data"].get("node", "")) if _names(e, prompt_id) else () for e in events]
        if ("execution_start", "") in marks and ("executing", None) in marks:
            run = events[marks.index(("execution_start", "")) : marks.index(("executing", None)) + 1]
            others = [e for s in found["websockets"] if s is not socket for e in s["events"]]
            return tuple(_frame(e, others, prompt_id) for e in run if e.get("type") != "status")
    return None


def _names(event: dict[str, Any], prompt_id: str) -> bool:
    return bool("data" in event and event["data"].get("prompt_id") == prompt_id)


def _frame(event: dict[str, Any], others: list[dict[str, Any]], prompt_id: str) -> Frame:
    if "binary" not in event:
        return Event(event["type"], event["data"], to_all="prompt_id" not in event["data"] and event in others)
    binary = event["binary"]
    if binary["event"] == 3:
        return Text(binary["node_id"], binary["text"])
    head = 8 + binary.get("metadata_bytes", 0)
    magic = bytes.fromhex(binary["image_magic_hex"])
    image = magic + bytes(binary["total_bytes"] - head - len(magic))
    code = 1 if magic.startswith(b"\xff\xd8") else 2
    kind = "image/jpeg" if code == 1 else "image/png"
    return Picture(image, code, binary.get("metadata") or {"prompt_id": prompt_id, "image_type": kind})


def _entry(found: dict[str, Any], prompt_id: str) -> dict[str, Any] | None:
    for exchange in found["exchanges"]:
        if exchange["request"]["path"] == f"/history/{prompt_id}":
            entry: dict[str, Any] | None = (exchange["response"].get("json") or {}).get(prompt_id)
            return entry
    return None


ENDS = ("execution_success", "execution_error", "execution_interrupted")


def _entry_of(frames: tuple[Frame, ...], graph: dict[str, Any]) -> dict[str, Any]:
    """The history entry of a run that nobody looked up."""
    events = [f for f in frames if isinstance(f, Event)]
    outputs = {e.data["node"]: e.data["output"] for e in events if e.type == "executed"}
    told = [e for e in events if e.type in ("execution_start", "execution_cached", *ENDS)]
    succeeded = told[-1].type == "execution_success"
    return {
        "prompt": [0, "", graph, {}, list(outputs)],
        "outputs": outputs,
        "meta": {
            node: {"node_id": node, "display_node": node, "parent_node": None, "real_node_id": node} for node in outputs
        },
        "status": {
            "status_str": "success" if succeeded else "error",
            "completed": succeeded,
            "messages": [[e.type, e.data] for e in told],
        },
    }


def _files(found: dict[str, Any]) -> Iterator[tuple[FileKey, bytes]]:
    for exchange in found["exchanges"]:
        url, answer = urlsplit(exchange["request"]["path"]), exchange["response"]
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/view" and "body_base64" in answer and not {"preview", "channel"} & set(query):
            key = (query.get("type", "output"), query.get("subfolder", ""), query["filename"])
            yield key, base64.b64decode(answer["body_base64"])
