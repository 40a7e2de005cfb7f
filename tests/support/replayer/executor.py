"""Plays the scripts of the queued prompts, one prompt after the other, as the recorded server ran them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from tests.support.replayer.faults import Faults, Version
from tests.support.replayer.library import Library
from tests.support.replayer.script import ENDS, Event, Frame, Picture, Script
from tests.support.replayer.sockets import Sockets
from tests.support.replayer.state import Folders, Memory, Prompt, made_picture

WITHOUT_CLIENT = ("progress_state", "progress", "execution_interrupted")  # what goes to all where a prompt has none


class Executor:
    """`ran`: every prompt that was begun, in order, over all restarts."""

    def __init__(
        self,
        faults: Faults,
        version: Version,
        library: Library,
        folders: Folders,
        sockets: Sockets,
        break_sockets: Callable[[], None],
    ) -> None:
        self.ran: list[Prompt] = []
        self._faults = faults
        self._version = version
        self._library = library
        self._folders = folders
        self._sockets = sockets
        self._break_sockets = break_sockets

    async def work(self, memory: Memory) -> None:
        """Runs whatever is queued, for as long as this memory lasts."""
        while True:
            prompt = await memory.next()
            self.ran.append(prompt)
            await _Run(self, memory, prompt).play()
            memory.running = None
            self.tell_status(memory)
            self.send(Event("executing", {"node": None, "prompt_id": prompt.id}), prompt)
            await asyncio.sleep(0)

    def tell_status(self, memory: Memory) -> None:
        self._sockets.send(status(memory), None)

    def send(self, frame: Frame, prompt: Prompt) -> None:
        to_all = isinstance(frame, Event) and (frame.to_all or (not prompt.client and frame.type in WITHOUT_CLIENT))
        if to_all:
            self._sockets.send(frame, None)
        elif prompt.client:
            self._sockets.send(frame, prompt.client)


def status(memory: Memory) -> Event:
    return Event("status", {"status": {"exec_info": {"queue_remaining": memory.remaining}}})


class _Run:
    def __init__(self, executor: Executor, memory: Memory, prompt: Prompt) -> None:
        self._executor = executor
        self._faults = executor._faults
        self._memory = memory
        self._prompt = prompt
        self._sent = 0
        self._renamed: dict[str, str] = {}
        self._executed: list[str] = []
        self._outputs: dict[str, Any] = {}
        self._messages: list[list[Any]] = []

    async def play(self) -> None:
        script = self._prompt.script
        self._executor.tell_status(self._memory)
        for frame in script.frames[:-1]:  # the last is `executing` nothing, which comes after the history entry
            await self._turn(frame)
            if self._stops_at(frame):
                self._tell(self._interruption())
                break
            self._tell(frame)
            await asyncio.sleep(self._faults.pace_seconds)
        else:
            self._executor._library.ended(self._prompt.graph)
        self._memory.history[self._prompt.id] = self._entry(script)

    def _stops_at(self, frame: Frame) -> bool:
        """The flag is looked at before each node and each step, not before that."""
        looks = isinstance(frame, Event) and frame.type in ("progress_state", "executing", "progress")
        return looks and self._memory.interrupted.is_set() and not self._faults.deaf

    async def _turn(self, frame: Frame) -> None:
        """Returns once this frame may go out: a held run waits, and a recorded interrupt for somebody's interrupt."""
        waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._faults.held(self._sent))]
        if isinstance(frame, Event) and frame.type == "execution_interrupted":
            await self._memory.interrupted.wait()
        if not self._faults.deaf:
            waiting.append(asyncio.ensure_future(self._memory.interrupted.wait()))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    def _tell(self, frame: Frame) -> None:
        frame = self._filled(frame)
        if isinstance(frame, Event):
            self._note(frame)
        if self._wanted(frame) and (self._faults.mute_after is None or self._sent < self._faults.mute_after):
            self._executor.send(frame, self._prompt)
        self._sent += 1
        if self._faults.drop_sockets_after is not None and self._sent >= self._faults.drop_sockets_after:
            self._faults.drop_sockets_after = None
            self._executor._break_sockets()

    def _wanted(self, frame: Frame) -> bool:
        tells = self._executor._version.tells_progress_state
        return tells or not (isinstance(frame, Event) and frame.type == "progress_state")

    def _note(self, event: Event) -> None:
        if event.type == "executing":
            if self._memory.node is not None:
                self._executed.append(self._memory.node)
            self._memory.node = event.data["node"]
        elif event.type == "executed":
            self._outputs[event.data["node"]] = event.data["output"]
        elif event.type in ("execution_start", "execution_cached", *ENDS) and "timestamp" in event.data:
            self._messages.append([event.type, event.data])

    def _filled(self, frame: Frame) -> Frame:
        """The frame with this prompt's id, the present time and the names that its files got."""
        if isinstance(frame, Event):
            if frame.type == "executed" and frame.data["node"] not in self._prompt.script.cached:
                self._save(frame.data["output"])
            data = self._put_in(frame.data)
            if not self._executor._version.tells_real_nodes:
                data.pop("display_node", None)
            return replace(frame, data=data)
        if isinstance(frame, Picture):
            node = self._memory.node
            ids = {"node_id": node, "display_node_id": node, "parent_node_id": None, "real_node_id": node}
            return replace(frame, meta=ids | self._put_in(frame.meta))
        return frame

    def _put_in(self, data: dict[str, Any]) -> dict[str, Any]:
        text = json.dumps(data).replace(json.dumps(self._prompt.script.prompt_id), json.dumps(self._prompt.id))
        for old, new in self._renamed.items():
            text = text.replace(json.dumps(old), json.dumps(new))
        filled: dict[str, Any] = json.loads(text.replace('"<ms since epoch>"', str(round(time.time() * 1000))))
        return filled

    def _save(self, ui: Any) -> None:
        """The files that this output names are there from now on."""
        for key in _named(ui):
            recorded = self._prompt.script.files.get(key) if self._prompt.exact else None
            if recorded is None:
                recorded = made_picture(json.dumps([self._prompt.graph, key], sort_keys=True))
            self._renamed[key[2]] = self._executor._folders.save(key, recorded)

    def _interruption(self) -> Event:
        node = self._memory.node or next(iter(self._prompt.graph))
        data = {"prompt_id": self._prompt.id, "node_id": node, "timestamp": "<ms since epoch>"}
        node_type = self._prompt.graph.get(node, {}).get("class_type", "")
        return Event("execution_interrupted", data | {"node_type": node_type, "executed": self._executed})

    def _entry(self, script: Script) -> dict[str, Any]:
        outputs = {node: self._outputs[node] for node in script.outputs if node in self._outputs}
        succeeded = self._messages[-1][0] == "execution_success"
        return {
            "prompt": self._prompt.item(),
            "outputs": outputs,
            "status": {
                "status_str": "success" if succeeded else "error",
                "completed": succeeded,
                "messages": self._messages,
            },
            "meta": {node: meta for node, meta in script.meta.items() if node in outputs},
        }


def _ends(frame: Frame) -> bool:
    return isinstance(frame, Event) and frame.type in ENDS and "timestamp" in frame.data


def _named(ui: Any) -> Iterator[tuple[str, str, str]]:
    """Type, subfolder and name of each file that an output tells."""
    if isinstance(ui, dict):
        if isinstance(ui.get("filename"), str):
            yield ui.get("type", "output"), ui.get("subfolder", ""), ui["filename"]
        for each in ui.values():
            yield from _named(each)
    elif isinstance(ui, list):
        for each in ui:
            yield from _named(each)
