"""What a run tells while it goes: facts, past tense, plain data. No torch and no HTTP here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRef:
    """Which node an event is about. For nodes made by expansion `real` differs from `id`."""

    id: str
    display: str
    parent: str | None = None
    real: str

    @staticmethod
    def plain(node_id: str) -> NodeRef:
        return NodeRef(id=node_id, display=node_id, real=node_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesCached:
    """The nodes whose results were there before the run began, in the order of the prompt."""

    nodes: tuple[str, ...]
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted:
    node: NodeRef


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """A node moved on: `value` of `maximum` steps."""

    node: NodeRef
    value: float
    maximum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewReady:
    """A picture of the half-done work. `image_type` is `image/jpeg` or `image/png`."""

    node: NodeRef
    image_type: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOutput:
    """A node returned something to show (its `ui`). `cached`: it was made by an earlier run."""

    node: NodeRef
    ui: dict[str, Any]
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFinished:
    """`cached`: an output node whose result came from the cache (it had no NodeStarted)."""

    node: NodeRef
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSucceeded:
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed:
    """A node's exception, as ComfyUI words it in `execution_error`, plus Limner's own error `code` and `retryable`."""

    node: NodeRef
    node_type: str
    exception_type: str
    exception_message: str
    traceback: tuple[str, ...]
    current_inputs: dict[str, Any]
    current_outputs: tuple[str, ...]
    executed: tuple[str, ...]
    code: str
    retryable: bool
    timestamp_ms: int
    refusal: dict[str, Any] = field(
        default_factory=dict
    )  # `error` and `node_errors`, where nodes found their own inputs unfit


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInterrupted:
    node: NodeRef
    node_type: str
    executed: tuple[str, ...]
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something a user should read that is no error, such as an unusual picture size."""

    node: NodeRef
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextShown:
    """A line that a node shows about its work, as a picture's size or what it waits for."""

    node: NodeRef
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackEvent:
    """An event of a node pack's own, for its part in the browser: the run's own, or everyone's of the tenant."""

    name: str
    data: dict[str, Any]
    everyone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeBlocked:
    """A node was left out because a value was blocked with a message. The run goes on."""

    node: NodeRef
    node_type: str
    message: str
    executed: tuple[str, ...]


Event = (
    RunStarted
    | NodesCached
    | NodeStarted
    | StepDone
    | PreviewReady
    | NodeOutput
    | NodeFinished
    | RunSucceeded
    | RunFailed
    | RunInterrupted
    | Warned
    | TextShown
    | PackEvent
    | NodeBlocked
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended: exactly one of the three ends, and every output's `ui` and meta as history shows them."""

    end: RunSucceeded | RunFailed | RunInterrupted
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    meta: dict[str, dict[str, Any]] = field(default_factory=dict)
