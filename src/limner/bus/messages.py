"""What travels over NATS: plain dataclasses, JSON on the wire, each message with a version `v`.

Unknown members are ignored when reading, so that version N works beside N-1.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, TypeVar

M = TypeVar("M", bound="Message")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    v: int = 1

    def encode(self) -> bytes:
        members = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return json.dumps(members, separators=(",", ":"), default=list).encode()

    @classmethod
    def decode(cls: type[M], data: bytes) -> M:
        raw = json.loads(data)
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in raw.items() if k in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Message):
    """The body of a JetStream job token. The rest of the job comes with the claim's answer."""

    id: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(Message):
    id: str
    epoch: int
    worker: str
    delivery: str  # unique per delivery: makes a repeat idempotent
    catalogue: str = ""  # digest of what the worker's engine can run
    resumed: bool = False  # only to go on with what this delivery was granted before: never begins an attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed(Message):
    """Answer to a claim. `ok` false: ack the token and forget it; `reason` says why."""

    ok: bool
    reason: str = ""
    token: str = ""
    attempt: int = 0
    tenant: str = ""
    prompt_id: str = ""
    client_id: str | None = None
    workflow: dict[str, Any] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    extra_data: dict[str, Any] = field(default_factory=dict)
    inputs: list[dict[str, Any]] = field(default_factory=list)  # InputFile as dicts
    key_prefix: str = ""  # blob keys of this attempt's outputs start with it
    watched: bool = False  # a socket is open for the client: previews are worth making
    elsewhere: bool = False  # not ok, as this worker cannot run it: give the token back for another one


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(Message):
    """A worker that was started again asks which jobs it held when it ended (request `limner.rpc.resume`)."""

    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Message):
    """Answer to Resume. `jobs`: {"id", "epoch", "delivery"}, the one that began last first."""

    ok: bool
    reason: str = ""
    jobs: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve(Message):
    """Asks for names for `count` output files; the gateway counts per (tenant, folder, prefix)."""

    id: str
    token: str
    call: int  # number of this request within the attempt: another attempt's same call gets the same names again
    subfolder: str
    prefix: str  # file part of the filename_prefix, tokens already replaced
    extension: str  # ".png"
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep(Message):
    """Asks for the names that an engine gave its output files itself (request `limner.rpc.keep`).

    `files`: {"subfolder", "filename", "sha256"}. A name that is taken by other bytes gets the next number, or ` (1)`.
    """

    id: str
    token: str
    files: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved(Message):
    """Answer to Reserve and Keep. An empty key: the tenant has these bytes under this name already."""

    ok: bool
    reason: str = ""
    names: list[dict[str, str]] = field(default_factory=list)  # {"filename", "subfolder", "key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Message):
    """The end of an attempt, whatever it was. The gateway commits it only while `token` matches.

    outcome: "succeeded" | "failed" | "interrupted" | "returned" (the worker is stopping: back to the queue,
    no attempt counted) | "unfit" (this worker lacks a node or a model: for another one, no attempt counted; where no
    other could run it, it has failed). `error`: execution_error's data for "failed" and "unfit", plus `code`,
    `retryable`.
    """

    id: str
    token: str
    outcome: str
    outputs: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    messages: list[list[Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(
        default_factory=list
    )  # {"key", "filename", "subfolder", "type", "size_bytes", "sha256"}
    error: dict[str, Any] | None = None
    models: list[str] = field(default_factory=list)
    last_seq: int = 0  # number of the attempt's last live event
    duration_ms: int = 0
    catalogue: str = ""  # digest of what the worker's engine could run


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled(Message):
    """Answer to Done. `ok` false: the attempt is no longer the worker's; it acks and forgets."""

    ok: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live(Message):
    """A live event on `limner.ev.<tenant>.<job>`. `kind` is the engine event's class name, or Ended / Queue.

    `data` holds the event's members (dataclasses.asdict). Previews share the numbering of the attempt's events and come
    just before the StepDone of the step that they show. They go to `limner.pv.…` with this as JSON header
    (see encode_preview) and the picture behind it.
    Ended: {"state", "queue_remaining", "last_seq", "messages": [[event, data]], "error"}; sent by the gateway after the
    commit.
    Queue: {"queue_remaining"}; sent by the gateway after each change, with job "" and client None.
    """

    job: str
    prompt_id: str
    client_id: str | None
    attempt: int
    seq: int
    kind: str
    data: dict[str, Any]


def encode_preview(live: Live, picture: bytes) -> bytes:
    """The body of a message on `limner.pv.…`: the length of the Live as 4 bytes big-endian, the Live, the picture."""
    header = live.encode()
    return len(header).to_bytes(4, "big") + header + picture


def decode_preview(body: bytes) -> tuple[Live, bytes]:
    length = int.from_bytes(body[:4], "big")
    return Live.decode(body[4 : 4 + length]), body[4 + length :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Control(Message):
    """To one worker on `limner.ctl.<worker>`. `kind`: "interrupt", "watch" (job and token must be the running ones),
    "free" or "drain".
    """

    kind: str
    id: str = ""
    token: str = ""
    unload_models: bool = False
    free_memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Message):
    """Asks a worker (request `limner.check.<pool>`) what the code of node classes says of inputs.

    `questions`: {"class", "inputs", "types"}, inputs by name with null for linked ones, types of all linked ones.
    """

    questions: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked(Message):
    """Answer to Check, a verdict for each question: true, false, a reason, {"type", "message"} of what the class's code
    raised, or null where this worker cannot tell.
    """

    verdicts: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Message):
    """A request to an HTTP route of a node pack, for a worker that has it (request `limner.route.<worker>`).

    `asked`: `method`, `path` (percent-encoded), `query`, `headers` (pairs). `body` is base64.
    """

    asked: dict[str, Any]
    body: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed(Message):
    """Answer to Route. `answer`: `routed` (false: no pack has the route), `status`, `headers` (pairs) and `fault`, a
    code and a message where no handler answered. `body` is base64; a larger one is the blob `key`.
    """

    answer: dict[str, Any]
    body: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Message):
    """Value in KV `limner_workers`, put every 5 s under the worker's id."""

    worker: str
    pool: str
    state: str  # "starting" | "idle" | "busy" | "quarantined" | "draining"
    version: str
    catalogue: str  # digest of the node catalogue it serves ("" until its engine is up)
    models: list[str] = field(default_factory=list)  # resident now
    devices: list[dict[str, Any]] = field(default_factory=list)  # as /system_stats shows them
    python_version: str = ""
    pytorch_version: str = ""
    job: str = ""
    incarnation: str = ""  # differs for each start of the worker
    engine: str = ""  # "limner" or "comfyui"
    engine_version: str = ""
    ram_total: int = 0  # bytes, of the engine's machine
    ram_free: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueOffer(Message):
    """A worker hands in its catalogue (request `limner.rpc.catalogue`): see graph.catalogue.Catalogue.to_json."""

    worker: str
    pool: str
    digest: str
    catalogue: dict[str, Any] | None = None  # None: only asks whether the gateway already has this digest
    key: str = ""  # the blob that holds the catalogue's JSON, where it is too large for a message


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueAnswer(Message):
    """Answer to CatalogueOffer. `wanted`: send the offer again with the catalogue itself."""

    ok: bool
    reason: str = ""
    wanted: bool = False
