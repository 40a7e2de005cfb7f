"""The HTTP routes of the recorded server, over what it knows and what it can play (WIRE section 2)."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.support.recordings import recording
from tests.support.replayer.executor import status
from tests.support.replayer.script import Event
from tests.support.replayer.state import Prompt

if TYPE_CHECKING:
    from tests.support.replayer.server import Replayer

TROUBLE = "500 Internal Server Error\n\nServer got itself in trouble"
TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "mp4": "video/mp4", "txt": "text/plain"}


def trouble(code: int = 500) -> Response:
    """The server's own words for what it does not handle."""
    return PlainTextResponse(TROUBLE if code == 500 else "", code)


def routes(server: Replayer) -> list[BaseRoute]:
    plain = _Routes(server)
    table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("POST", "/prompt", plain.post_prompt),
        ("GET", "/prompt", plain.get_prompt),
        ("GET", "/queue", plain.get_queue),
        ("POST", "/queue", plain.post_queue),
        ("GET", "/history", plain.get_history),
        ("GET", "/history/{prompt_id}", plain.get_history_entry),
        ("POST", "/history", plain.post_history),
        ("POST", "/interrupt", plain.interrupt),
        ("POST", "/free", plain.free),
        ("GET", "/view", plain.view),
        ("POST", "/upload/image", plain.upload),
        ("GET", "/system_stats", plain.system_stats),
        ("GET", "/features", plain.features),
        ("GET", "/object_info", plain.object_info),
        ("GET", "/object_info/{name}", plain.object_info),
        ("GET", "/embeddings", plain.embeddings),
        ("GET", "/models", plain.models),
        ("GET", "/models/{kind}", plain.models_of),
    ]
    made: list[BaseRoute] = []
    for prefix in ("", "/api"):
        made += [Route(prefix + path, endpoint, methods=[method]) for method, path, endpoint in table]
        made.append(WebSocketRoute(prefix + "/ws", plain.ws))
    return made


class _Routes:
    def __init__(self, server: Replayer) -> None:
        self._server = server

    # The queue

    async def post_prompt(self, request: Request) -> Response:
        body = json.loads(await request.body())
        if not isinstance(body, dict) or "prompt" not in body:
            return refused("no_prompt", "No prompt provided", "No prompt provided")
        memory, version = self._server.memory, self._server.version
        if "number" in body:
            number = float(body["number"])
        else:
            number = -memory.counter if body.get("front") else memory.counter
            memory.counter += 1
        graph = body["prompt"]
        script, exact = self._server.script_for(graph)
        if script is None:
            return self._refusal(graph)
        extra = dict(body.get("extra_data") or {})
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        prompt_id = str(body["prompt_id"]) if version.takes_prompt_id and "prompt_id" in body else str(uuid.uuid4())
        memory.add(Prompt(number=number, id=prompt_id, graph=graph, extra_data=extra, script=script, exact=exact))
        self._server.executor.tell_status(memory)
        return JSONResponse({"prompt_id": prompt_id, "number": number, "node_errors": script.node_errors})

    def _refusal(self, graph: Any) -> Response:
        if (found := self._server.refusal(graph)) is not None:
            return JSONResponse(found, 400)
        self._server.unknown.append(graph)
        return trouble()

    async def get_prompt(self, _: Request) -> Response:
        return JSONResponse({"exec_info": {"queue_remaining": self._server.memory.remaining}})

    async def get_queue(self, _: Request) -> Response:
        memory = self._server.memory
        running = [memory.running.item()] if memory.running else []
        return JSONResponse({"queue_running": running, "queue_pending": [each.item() for each in memory.pending]})

    async def post_queue(self, request: Request) -> Response:
        body, memory = json.loads(await request.body()), self._server.memory
        gone = {each.id for each in memory.pending} if body.get("clear") else set(body.get("delete", []))
        memory.pending = [each for each in memory.pending if each.id not in gone]
        self._server.executor.tell_status(memory)
        return Response()

    async def get_history(self, request: Request) -> Response:
        entries = list(self._server.memory.history.items())
        count, offset = request.query_params.get("max_items"), int(request.query_params.get("offset", -1))
        if count is not None and offset < 0:
            entries = entries[max(0, len(entries) - int(count)) :]
        elif offset >= 0:
            entries = entries[offset : None if count is None else offset + int(count)]
        return JSONResponse(dict(entries))

    async def get_history_entry(self, request: Request) -> Response:
        prompt_id, faults = request.path_params["prompt_id"], self._server.faults
        entry = self._server.memory.history.get(prompt_id)
        if entry is None or faults.history_never:
            return JSONResponse({})
        if faults.history_late > 0:
            faults.history_late -= 1
            return JSONResponse({})
        return JSONResponse({prompt_id: entry})

    async def post_history(self, request: Request) -> Response:
        body, history = json.loads(await request.body()), self._server.memory.history
        for prompt_id in list(history) if body.get("clear") else body.get("delete", []):
            history.pop(prompt_id, None)
        return Response()

    async def interrupt(self, request: Request) -> Response:
        """Without an id whatever runs is meant, and always so in a version that knows no ids here."""
        try:
            named = json.loads(await request.body()).get("prompt_id")
        except ValueError:
            named = None
        memory = self._server.memory
        meant = not named or not self._server.version.interrupts_by_id
        if memory.running is not None and (meant or memory.running.id == named):
            self._server.interrupts.append(memory.running.id)
            memory.interrupted.set()
        return Response()

    async def free(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self._server.freed.append(body)
        if body.get("free_memory"):
            self._server.library.forget()
        return Response()

    # Files

    async def view(self, request: Request) -> Response:
        query = request.query_params
        if "filename" not in query:
            return Response(status_code=404)
        name, kind, subfolder = query["filename"], query.get("type", "output"), query.get("subfolder", "")
        if not name or name.startswith("/") or ".." in name or kind not in ("output", "temp", "input"):
            return Response(status_code=400)
        if subfolder.startswith("/") or ".." in subfolder:
            return Response(status_code=403)
        content = self._server.folders.files.get((kind, subfolder, name.rsplit("/", 1)[-1]))
        return Response(status_code=404) if content is None else self._sent(request, name, content)

    def _sent(self, request: Request, name: str, content: bytes) -> Response:
        begin, code = 0, 200
        if asked := re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", "")):
            begin, code = int(asked[1]), 206
        headers = {"Content-Disposition": f'filename="{name}"', "Content-Length": str(len(content) - begin)}
        if code == 206:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        media_type = TYPES.get(name.rsplit(".", 1)[-1], "application/octet-stream")
        return StreamingResponse(self._pieces(content[begin:]), code, headers, media_type)

    async def _pieces(self, content: bytes) -> AsyncIterator[bytes]:
        faults = self._server.faults
        end = faults.cut_views.pop(0) if faults.cut_views else len(content)
        size = max(1, len(content) // 4)
        for at in range(0, min(end, len(content)), size):
            await asyncio.sleep(faults.slow_view_seconds)
            yield content[at : min(at + size, end)]

    async def upload(self, request: Request) -> Response:
        async with request.form() as form:
            file, kind = form.get("image"), str(form.get("type", "input"))
            subfolder = str(form.get("subfolder", ""))
            if file is None:
                return Response(status_code=400)
            if self._server.faults.full_disk or not isinstance(file, UploadFile) or not file.filename:
                return trouble()
            if kind not in ("input", "temp", "output"):
                return trouble()
            if ".." in subfolder or subfolder.startswith("/") or ".." in file.filename:
                return Response(status_code=400)
            overwrite = form.get("overwrite") in ("true", "1")
            key = (kind, subfolder, file.filename)
            name = self._server.folders.upload(key, await file.read(), overwrite=overwrite)
        return JSONResponse({"name": name, "subfolder": subfolder, "type": kind})

    # Information

    async def system_stats(self, _: Request) -> Response:
        stats = _recorded("/system_stats")
        stats["system"] |= {"ram_total": 16 << 30, "ram_free": 8 << 30, "comfyui_version": self._server.version.name}
        sizes = ("vram_total", "vram_free", "torch_vram_total", "torch_vram_free")
        for device in stats["devices"]:
            device |= dict.fromkeys(sizes, 16 << 30)
        return JSONResponse(stats)

    async def features(self, _: Request) -> Response:
        known = self._server.version.has_features
        return JSONResponse(_recorded("/features")) if known else Response(status_code=404)

    async def object_info(self, request: Request) -> Response:
        found = self._server.object_info()
        if (name := request.path_params.get("name")) is not None:
            found = {name: found[name]} if name in found else {}
        return JSONResponse(found)

    async def embeddings(self, _: Request) -> Response:
        return JSONResponse([])

    async def models(self, _: Request) -> Response:
        return JSONResponse(_recorded("/models"))

    async def models_of(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        known = kind in _recorded("/models")
        return JSONResponse(self._server.models.get(kind, [])) if known else Response(status_code=404)

    async def ws(self, ws: WebSocket) -> None:
        if self._server.faults.refuse_sockets > 0:
            self._server.faults.refuse_sockets -= 1
            await ws.send_denial_response(trouble())
            return
        memory, client = self._server.memory, ws.query_params.get("clientId")
        greeting = [status(memory)]
        if memory.running is not None and client and memory.running.client == client and memory.node is not None:
            greeting.append(Event("executing", {"node": memory.node}))
        await self._server.sockets.serve(ws, greeting)


def refused(kind: str, message: str, details: str) -> JSONResponse:
    return JSONResponse(
        {"error": {"type": kind, "message": message, "details": details, "extra_info": {}}, "node_errors": {}}, 400
    )


def _recorded(path: str) -> Any:
    for exchange in recording("33")["exchanges"]:
        if exchange["request"]["path"] == path and exchange["request"]["method"] == "GET":
            return exchange["response"]["json"]
    raise KeyError(path)
