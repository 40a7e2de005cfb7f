"""Every route of ComfyUI's dialect, at `/` and at `/api`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from limner.comfy.dialect.context import Dialect
from limner.comfy.dialect.extensions import Extensions
from limner.comfy.dialect.files import Files
from limner.comfy.dialect.info import Info
from limner.comfy.dialect.prompts import Prompts
from limner.comfy.dialect.queue import Queue
from limner.comfy.dialect.socket import Sockets

Handler = Callable[[Request], Awaitable[Response]]

PREFIXES = ("", "/api")


def routes(dialect: Dialect, sockets: Sockets) -> list[BaseRoute]:
    """One route per path and prefix, which answers all of its methods; HEAD works wherever GET does."""
    files, info, prompts, queue = Files(dialect), Info(dialect), Prompts(dialect), Queue(dialect)
    extensions = Extensions(dialect)
    table: dict[str, dict[str, Handler]] = {
        "/prompt": {"GET": prompts.remaining, "POST": prompts.submit},
        "/queue": {"GET": queue.show, "POST": queue.change},
        "/history": {"GET": queue.history, "POST": queue.forget},
        "/history/{prompt_id:path}": {"GET": queue.history_of_one},
        "/interrupt": {"POST": queue.interrupt},
        "/free": {"POST": queue.free},
        "/view": {"GET": files.view},
        "/upload/image": {"POST": files.upload_image},
        "/upload/mask": {"POST": files.upload_mask},
        "/object_info": {"GET": info.object_info},
        "/object_info/{name:path}": {"GET": info.object_info_of_one},
        "/system_stats": {"GET": info.system_stats},
        "/features": {"GET": info.features},
        "/embeddings": {"GET": info.embeddings},
        "/extensions": {"GET": extensions.scripts},
        "/extensions/{path:path}": {"GET": extensions.file},
        "/models": {"GET": info.folders},
        "/models/{kind}": {"GET": info.models},
    }

    async def socket(websocket: WebSocket) -> None:
        await sockets.serve(dialect.tenant, websocket)

    found: list[BaseRoute] = []
    for prefix in PREFIXES:
        found += [_route(prefix + path, handlers) for path, handlers in table.items()]
        found.append(WebSocketRoute(prefix + "/ws", socket))
    return found


def _route(path: str, handlers: Mapping[str, Handler]) -> Route:
    async def answer(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, answer, methods=list(handlers))
