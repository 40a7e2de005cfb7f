"""PromptServer: what packs tell their part in the browser, and the routes that they declare at import.

Routes are kept in a table (limner.compat.routes answers them); nothing here listens.
"""

from __future__ import annotations

import asyncio
import uuid as uuid
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

from aiohttp import web as web

from limner import logs
from limner.compat.inputs import as_json
from limner.compat.loops import LoopThread
from limner.compat.modules.protocol import BinaryEventTypes as BinaryEventTypes
from limner.compat.place import here
from limner.compat.previews import encoded
from limner.engine.events import PreviewReady

log = logs.get("limner.packs")

PREVIEWS = (BinaryEventTypes.PREVIEW_IMAGE, BinaryEventTypes.UNENCODED_PREVIEW_IMAGE)
HEADER_BYTES = 4
PICTURES = {1: "image/jpeg", 2: "image/png"}


class PromptServer:
    """`PromptServer.instance` is the only one. What it says of the client and the node is of the run that goes on."""

    instance: ClassVar[PromptServer]

    def __init__(self) -> None:
        self.routes = web.RouteTableDef()
        self.loop_thread = LoopThread()
        self.supports = ["custom_nodes_from_web"]
        self.sockets: dict[str, Any] = {}
        self.sockets_metadata: dict[str, Any] = {}
        self.number = 0
        self.address = "127.0.0.1"
        self.port = 8188
        self.web_root = str(here().folder / "web")
        self.prompt_queue = PromptQueue()
        self.on_prompt_handlers: list[Callable[[dict[str, Any]], dict[str, Any]]] = []
        self.messages: asyncio.Queue[Any] | None = None
        self.client_session = None

    @cached_property
    def app(self) -> web.Application:
        """Packs add static folders and routes to it."""
        return web.Application()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """A loop that runs in a thread of its own, for `run_coroutine_threadsafe` and `call_soon_threadsafe`."""
        return self.loop_thread.loop

    @property
    def client_id(self) -> str | None:
        return here().client

    @property
    def last_node_id(self) -> str | None:
        ctx = here().running()
        return None if ctx is None else ctx.node.id

    @property
    def last_prompt_id(self) -> str | None:
        ctx = here().running()
        return None if ctx is None else ctx.prompt_id

    def send_sync(self, event: Any, data: Any, sid: str | None = None) -> None:
        """Tells the run's client, or without `sid` every client of the same tenant. Between runs nobody is told."""
        ctx = here().running()
        if ctx is None:
            log.debug("an event that no run sends is dropped", event_name=str(event))
        elif event in PREVIEWS:
            self._preview(data)
        elif event == BinaryEventTypes.TEXT or isinstance(event, int):
            log.debug("a binary message of a kind that cannot be passed on is dropped", kind=int(event))
        else:
            told = as_json(data)
            ctx.send(str(event), told if isinstance(told, dict) else {"value": told}, everyone=sid is None)

    async def send(self, event: Any, data: Any, sid: str | None = None) -> None:
        self.send_sync(event, data, sid)

    async def send_json(self, event: str, data: Any, sid: str | None = None) -> None:
        self.send_sync(event, data, sid)

    def send_progress_text(self, text: str | bytes | bytearray, node_id: str, sid: str | None = None) -> None:
        """Shows a line at the node that runs."""
        ctx = here().running()
        if ctx is not None:
            ctx.show_text(text if isinstance(text, str) else bytes(text).decode("utf-8", "replace"))

    def add_on_prompt_handler(self, handler: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Kept, and not called: the gateways that take workflows run no code of packs."""
        self.on_prompt_handlers.append(handler)

    def add_routes(self) -> None:
        """Declared routes need no such call."""

    def get_queue_info(self) -> dict[str, Any]:
        return {"exec_info": {"queue_remaining": self.prompt_queue.get_tasks_remaining()}}

    def queue_updated(self) -> None:
        """Limner tells clients of its queue itself."""

    def _preview(self, data: Any) -> None:
        """A picture of the half-done work: `(format, picture, largest size)`, or a type's number and the bytes."""
        ctx = here().running()
        if ctx is None or not ctx.previews:
            return
        if isinstance(data, bytes | bytearray):
            kind = PICTURES.get(int.from_bytes(data[:HEADER_BYTES], "big"), "image/jpeg")
            ctx.on_event(PreviewReady(node=ctx.node, image_type=kind, data=bytes(data[HEADER_BYTES:])))
        elif isinstance(data, tuple) and len(data) == 3:
            kind, picture = encoded(data)
            ctx.on_event(PreviewReady(node=ctx.node, image_type=kind, data=picture))


class PromptQueue:
    """The queue is the gateways'; an engine sees the run it has, and no other."""

    def get_tasks_remaining(self) -> int:
        return 0 if here().ctx is None else 1

    def get_current_queue(self) -> tuple[list[Any], list[Any]]:
        ctx = here().ctx
        running: list[Any] = [] if ctx is None else [(0, ctx.prompt_id, ctx.prompt, {}, [])]
        return running, []

    get_current_queue_volatile = get_current_queue

    def get_history(
        self, prompt_id: str | None = None, max_items: int | None = None, offset: int = -1
    ) -> dict[str, Any]:
        return {}

    def put(self, item: Any) -> None:
        raise NotImplementedError(
            "a node pack cannot queue workflows in Limner's engine: send POST /prompt to the server"
        )

    def set_flag(self, name: str, data: Any) -> None:
        """`free_memory` and `unload_models` are for POST /free to say."""


PromptServer.instance = PromptServer()
