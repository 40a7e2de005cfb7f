"""ComfyUI's messages about one prompt become the engine's events: no I/O, and no clock but for a missing timestamp."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from limner.worker.engines.comfyui.frames import Message, Pictured, Said, Worded
from limner.worker.engines.comfyui.history import Ending, ending_of
from limner.worker.engines.comfyui.values import sound
from limner.worker.engines.port import EngineEvent

Ref: TypeAlias = dict[str, Any]
"""A node: `id`, `display`, `parent`, `real`."""

ENDS = frozenset({"execution_success", "execution_error", "execution_interrupted"})
BEGINNINGS = frozenset({"execution_start", "execution_cached"})
COMFYS_OWN = ENDS | BEGINNINGS | {"progress_state", "progress", "executed"}
NOT_ABOUT_RUNS = frozenset({"status", "feature_flags", "logs"})
MAX_PACK_EVENT_LETTERS = 1024 * 1024
BLOCKED = "ExecutionBlocked"
"""The type of an execution_error that ends nothing: a node was not called because an input was blocked."""


class Reading:
    """Feed it what one socket hears, in order.

    `started`, `end` (name and data of the message that told the end) and `over` (nothing more will come) tell how far
    the prompt is; `moves` counts the signs that it goes on. Messages of other prompts, and what no version of ComfyUI
    sends, change nothing.
    """

    def __init__(self, prompt_id: str, *, watched: bool = False) -> None:
        self.prompt_id = prompt_id
        self.watched = watched
        self.started = False
        self.over = False
        self.moves = 0
        self.end: tuple[str, dict[str, Any]] | None = None
        self.current: Ref | None = None  # the node that began last
        self._outputs: dict[str, dict[str, Any]] = {}
        self._refs: dict[str, Ref] = {}
        self._running: dict[str, Ref] = {}  # began, and did not finish yet
        self._known: set[str] = set()  # nodes that began or finished
        self._stated: set[str] = set()  # nodes that a progress_state has described
        self._told: set[str] = set()  # which of RunStarted and NodesCached were told
        self._has_states = False  # whether this version sends progress_state

    def read(self, message: Message) -> Iterator[EngineEvent]:
        """The events that one message tells."""
        match message:
            case Pictured():
                yield from self._pictured(message)
            case Worded():
                if self._is_ours_now:
                    yield _event("TextShown", node=self.ref(message.node), text=sound(message.text))
            case Said() if message.name not in NOT_ABOUT_RUNS:
                yield from self._said(message.name, sound(message.data), message.size)

    def catch_up(self, messages: Iterable[Any]) -> Iterator[EngineEvent]:
        """How the run began, from history's messages, where it was not heard."""
        for message in messages:
            if not isinstance(message, list) or len(message) != 2 or not isinstance(message[1], dict):
                continue
            if message[0] in BEGINNINGS and message[0] not in self._told:
                yield from self._said_to_us(message[0], sound(message[1]), 0)

    def finish(self) -> Iterator[EngineEvent]:
        """The run succeeded: so did every node that began."""
        for node in list(self._running.values()):
            yield from self._finished(node)

    def ending(self) -> Ending | None:
        """How the prompt ended, as far as it was heard; None where the end was not."""
        if self.end is None:
            return None
        name, data = self.end
        status = {"status_str": "success" if name == "execution_success" else "error", "messages": [[name, data]]}
        meta = {node: _meta(self.ref(node)) for node in self._outputs}
        return ending_of({"outputs": self._outputs, "status": status, "meta": meta})

    def ref(self, node_id: str) -> Ref:
        """What is known of a node."""
        return self._refs.get(node_id) or {"id": node_id, "display": node_id, "parent": None, "real": node_id}

    @property
    def _is_ours_now(self) -> bool:
        """Whether what names no prompt is about ours: one prompt runs at a time."""
        return self.started and not self.over

    def _said(self, name: str, data: dict[str, Any], size: int = 0) -> Iterator[EngineEvent]:
        told = data.get("prompt_id")
        if told is None:
            yield from self._said_to_nobody(name, data, size)
        elif told == self.prompt_id:
            self.moves += 1
            yield from self._said_to_us(name, data, size)

    def _said_to_nobody(self, name: str, data: dict[str, Any], size: int) -> Iterator[EngineEvent]:
        """What names no prompt: a pack's event, or the node that runs, told to a socket that joins meanwhile."""
        if name == "executing":
            node = data.get("node")
            if node is not None and (self.current is None or self.current["id"] != _text(node)):
                self.moves += 1
                yield from self._executing(data)
        elif self._is_ours_now and name not in COMFYS_OWN:
            yield from self._of_a_pack(name, data, size)

    def _said_to_us(self, name: str, data: dict[str, Any], size: int) -> Iterator[EngineEvent]:
        match name:
            case "execution_start":
                self.started = True
                self._told.add(name)
                yield _event("RunStarted", timestamp_ms=_timestamp(data))
            case "execution_cached":
                self._told.add(name)
                nodes = [each for each in _list(data.get("nodes")) if isinstance(each, str)]
                yield _event("NodesCached", nodes=nodes, timestamp_ms=_timestamp(data))
            case "progress_state":
                yield from self._states(data)
            case "executing":
                yield from self._executing(data)
            case "progress":
                yield from self._stepped(data)
            case "executed":
                yield from self._executed(data)
            case "execution_error" if data.get("exception_type") == BLOCKED:
                yield from self._of_a_pack(name, data, size)
            case _ if name in ENDS:
                self.end = name, data
            case _:
                yield from self._of_a_pack(name, data, size)

    def _of_a_pack(self, name: str, data: dict[str, Any], size: int) -> Iterator[EngineEvent]:
        if size <= MAX_PACK_EVENT_LETTERS:
            yield _event("PackEvent", name=name, data=data)

    def _executing(self, data: Mapping[str, Any]) -> Iterator[EngineEvent]:
        """A node begins. None: the prompt is over."""
        if data.get("node") is None:
            if self.end is not None and self.end[0] == "execution_success":
                yield from self.finish()
            self.over = True
            return
        node = self._learn(_text(data["node"]), display=data.get("display_node"))
        self.started = True
        if not self._has_states and self.current is not None and self.current["id"] != node["id"]:
            yield from self._finished(self.current)
        self.current = node
        self._running[node["id"]] = node
        self._known.add(node["id"])
        yield _event("NodeStarted", node=node)

    def _states(self, data: Mapping[str, Any]) -> Iterator[EngineEvent]:
        """Every node that began, with its state. Only news of finished ones are taken from here."""
        self.started = self._has_states = True
        for key, state in _object(data.get("nodes")).items():
            if not isinstance(state, dict):
                continue
            node = self._stated_node(key, state)
            if state.get("state") != "finished":
                continue
            if key in self._running:
                yield from self._finished(node)
            elif key not in self._known:  # its result was there already
                self._known.add(key)
                yield _event("NodeFinished", node=node, cached=_is_cached(state))

    def _stated_node(self, key: str, state: Mapping[str, Any]) -> Ref:
        if key in self._stated:
            return self._refs[key]
        self._stated.add(key)
        return self._learn(
            key,
            display=state.get("display_node_id"),
            parent=state.get("parent_node_id"),
            real=state.get("real_node_id"),
        )

    def _finished(self, node: Ref) -> Iterator[EngineEvent]:
        if self._running.pop(node["id"], None) is not None:
            yield _event("NodeFinished", node=node, cached=False)

    def _stepped(self, data: Mapping[str, Any]) -> Iterator[EngineEvent]:
        value, maximum, node = data.get("value"), data.get("max"), data.get("node")
        if not isinstance(value, int | float) or not isinstance(maximum, int | float):
            return
        where = self.ref(_text(node)) if node is not None else self.current
        if where is not None:
            yield _event("StepDone", node=where, value=value, maximum=maximum)

    def _executed(self, data: Mapping[str, Any]) -> Iterator[EngineEvent]:
        node_id, ui = data.get("node"), data.get("output")
        if node_id is None or not isinstance(ui, dict):
            return
        node = self._learn(_text(node_id), display=data.get("display_node"))
        self._outputs[node["id"]] = ui
        yield _event("NodeOutput", node=node, ui=ui, cached=node["id"] not in self._known)

    def _pictured(self, message: Pictured) -> Iterator[EngineEvent]:
        """A preview; one that names no node shows the one that runs."""
        about = message.about
        if (
            not self.watched
            or not self._is_ours_now
            or (about and about.get("prompt_id", self.prompt_id) != self.prompt_id)
        ):
            return
        node = self.current
        if about and about.get("node_id") is not None:
            node = self._learn(
                _text(about["node_id"]),
                display=about.get("display_node_id"),
                parent=about.get("parent_node_id"),
                real=about.get("real_node_id"),
            )
        if node is not None:
            data = {"node": node, "image_type": message.image_type}
            yield EngineEvent(kind="PreviewReady", data=data, picture=message.picture)

    def _learn(self, node_id: str, *, display: Any = None, parent: Any = None, real: Any = None) -> Ref:
        """Notes what was told of a node. Some messages tell less than others, so what is known stays."""
        node = dict(self.ref(node_id))
        if isinstance(display, str):
            node["display"] = display
        if isinstance(parent, str):
            node["parent"] = parent
        if isinstance(real, str):
            node["real"] = real
        elif node_id not in self._refs:
            node["real"] = node["display"]  # a node made by expansion is shown at the one it was made by
        self._refs[node_id] = node
        return node


def _event(kind: str, **data: Any) -> EngineEvent:
    return EngineEvent(kind=kind, data=data)


def _meta(node: Ref) -> dict[str, Any]:
    """A node as history names it."""
    return {
        "node_id": node["id"],
        "display_node": node["display"],
        "parent_node": node["parent"],
        "real_node_id": node["real"],
    }


def _timestamp(data: Mapping[str, Any]) -> int:
    told = data.get("timestamp")
    return told if isinstance(told, int) else round(time.time() * 1000)


def _is_cached(state: Mapping[str, Any]) -> bool:
    """A result from the cache counts 1 of 1 in whole numbers; what ran unheard, in fractions or in steps."""
    return state.get("value") == 1 and isinstance(state.get("value"), int)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
