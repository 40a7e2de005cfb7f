"""What a run tells, on its way to the sink: files fetched, and the caller's own file names put back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from limner import logs
from limner.errors import Unavailable
from limner.worker.engines.comfyui import tasks
from limner.worker.engines.comfyui.client import Refused, Unreachable
from limner.worker.engines.comfyui.history import Ending
from limner.worker.engines.comfyui.inputs import Prepared
from limner.worker.engines.comfyui.outputs import Outputs
from limner.worker.engines.port import EngineEvent, Sink

log = logs.get("comfyui")

WORDS = frozenset({"TextShown", "PackEvent"})
"""Events that may name an input file by the name that only the instance gives it."""

MOST_AHEAD = 256
"""Where more events than this wait for the sink, those that only pass are left out ..."""
MOST_PICTURES = 8
"""... and previews earlier, as they are large."""
PASSING = frozenset({"StepDone", "TextShown", "PackEvent"})


class Telling:
    """Tells in the order of `tell`, beside its caller, who reads on while a node's files are fetched.

    What the sink raises, and FileGone, come out of the next `tell` or `check`, or of `told`. `close` must follow.
    """

    def __init__(self, sink: Sink, outputs: Outputs, prepared: Prepared) -> None:
        self._sink = sink
        self._outputs = outputs
        self._prepared = prepared
        self._shown: set[str] = set()  # nodes whose output was told
        self._postponed = False
        self._waiting: asyncio.Queue[EngineEvent] = asyncio.Queue()
        self._teller = asyncio.create_task(self._tell_all())

    def tell(self, event: EngineEvent) -> None:
        """Takes an event to be told."""
        self.check()
        if not self._lags_behind(event):
            self._waiting.put_nowait(event)

    async def told(self) -> None:
        """Returns once all that was taken is told."""
        all_told = asyncio.create_task(self._waiting.join())
        try:
            await asyncio.wait({all_told, self._teller}, return_when=asyncio.FIRST_COMPLETED)
            self.check()
        finally:
            await tasks.end(all_told)

    @property
    def failed(self) -> bool:
        """Whether the sink takes no more."""
        return self._teller.done()

    def check(self) -> None:
        """Raises what the sink raised, should it have."""
        if self.failed:
            self._teller.result()

    async def close(self) -> None:
        """What is not told yet stays untold."""
        await tasks.end(self._teller)
        if not self._teller.cancelled():
            self._teller.exception()  # it came out before, or its run has ended without it

    def _lags_behind(self, event: EngineEvent) -> bool:
        """Whether an event that nothing depends on comes while too many others wait."""
        waiting = self._waiting.qsize()
        if event.kind == "PreviewReady":
            return waiting >= MOST_PICTURES
        return waiting >= MOST_AHEAD and event.kind in PASSING

    async def _tell_all(self) -> None:
        while True:
            event = await self._waiting.get()
            await self._tell(event)
            self._waiting.task_done()

    async def _tell(self, event: EngineEvent) -> None:
        """Passes an event on. A file that cannot be had now is fetched when the run has ended."""
        if event.kind == "NodesCached":
            self._outputs.cached(event.data["nodes"])
        elif event.kind == "NodeOutput":
            try:
                ui, files = await self._outputs.take(event.data["node"], event.data["ui"])
            except Unreachable as error:
                log.warning("a node's files are fetched later", error=error.message)
                self._postponed = True
                return
            self._shown.add(event.data["node"]["id"])
            event = replace(event, data=event.data | {"ui": ui}, files=files)
        elif event.kind in WORDS:
            event = replace(event, data=self._prepared.restore(event.data))
        await self._sink.event(event)

    async def settle(self, ending: Ending, *, missed: bool) -> tuple[dict[str, Any], list[dict[str, str]]]:
        """(the outputs as kept, files of them that were in no event). `missed`: some events were not heard.

        What was not told yet is told then. Of a run that did not succeed, what cannot be had is left out.
        """
        if ending.outcome == "interrupted":  # who stops a run does not wait for its files
            ending = self._only_shown(ending)
        try:
            outputs, files = await self._outputs.settle(ending)
        except (Unreachable, Refused, Unavailable) as error:
            if ending.outcome == "succeeded":
                raise
            log.warning("not all that a failed run made can be had", error=error.message)
            outputs, files = await self._outputs.settle(self._only_shown(ending))
        if not missed and not self._postponed:
            return outputs, files
        for node in [node for node in outputs if node not in self._shown]:
            await self._sink.event(self._late(ending, node, outputs[node], files))
            files = []
        return outputs, files

    def _only_shown(self, ending: Ending) -> Ending:
        return replace(ending, outputs={node: ui for node, ui in ending.outputs.items() if node in self._shown})

    def _late(self, ending: Ending, node: str, ui: dict[str, Any], files: list[dict[str, str]]) -> EngineEvent:
        meta = ending.meta[node]
        ref = {"id": node, "display": meta["display_node"], "parent": meta["parent_node"], "real": meta["real_node_id"]}
        return EngineEvent(kind="NodeOutput", data={"node": ref, "ui": ui, "cached": False}, files=files)
