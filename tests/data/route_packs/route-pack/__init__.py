"""A pack that declares HTTP routes in every way that packs do."""

import asyncio
import threading
import time
from pathlib import Path

import server
from aiohttp import web
from server import PromptServer

FOLDER = Path(__file__).parent / "files"
routes = PromptServer.instance.routes
kept = {}
gone_on = threading.Event()
waiting = threading.Event()


@routes.get("/routed/hello")
async def hello(request):
    return web.json_response({"name": request.rel_url.query.get("name"), "header": request.headers.get("X-Told")})


@routes.post("/routed/keep/{key}")
async def keep(request):
    kept[request.match_info["key"]] = await request.json()
    return web.Response(status=201, text="kept")


@routes.get("/routed/keep/{key}")
async def show(request):
    if request.match_info["key"] not in kept:
        raise web.HTTPNotFound(text="nothing is kept there")
    return web.json_response(kept[request.match_info["key"]])


@routes.delete("/routed/keep/{key}")
async def drop(request):
    kept.pop(request.match_info["key"])
    return web.Response(status=204)


@routes.get(r"/routed/tree/{path:\w+/.+}")
async def tree(request):
    return web.json_response({"path": request.match_info["path"]})


@routes.post("/routed/form")
async def form(request):
    told = await request.post()
    upload = told["file"]
    return web.json_response({"text": told["text"], "name": upload.filename, "size": len(upload.file.read())})


@routes.post("/routed/size")
async def size(request):
    return web.json_response({"size": len(await request.read())})


@routes.get("/routed/large")
async def large(request):
    return web.Response(body=bytes(int(request.query["bytes"])))


@routes.get("/routed/page")
async def page(request):
    return web.Response(
        text="<script>alert(1)</script>",
        content_type="text/html",
        headers={"Set-Cookie": "a=b", "Location": "https://elsewhere.example/", "Cache-Control": "no-store"},
    )


@routes.get("/routed/moved")
async def moved(request):
    raise web.HTTPFound("/routed/hello")


@routes.get("/routed/what-came")
async def what_came(request):
    return web.json_response({name.lower(): value for name, value in request.headers.items()})


@routes.get("/routed/raises")
async def raises(request):
    raise ValueError("no good")


@routes.get("/routed/ends")
async def ends(request):
    raise SystemExit(3)


@routes.get("/routed/nothing")
async def nothing(request):
    return None


@routes.get("/routed/hangs")
async def hangs(request):
    await asyncio.Event().wait()


@routes.get("/routed/blocks")
async def blocks(request):
    while request.query.get("for") == "ever":
        time.sleep(0.1)
    return web.Response(text="passed")


@routes.get("/routed/pieces")
async def pieces(request):
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    for number in range(3):
        await response.write(f"{number} ".encode())
    return response


@routes.get("/routed/endless")
async def endless(request):
    response = web.StreamResponse(headers={"Content-Type": request.query["kind"]})
    await response.prepare(request)
    await response.write(b"data: 1\n\n")
    await asyncio.Event().wait()


@routes.get("/routed/socket")
async def socket(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    return socket


@routes.get("/routed/same-loop")
async def same_loop(request):
    return web.json_response({"same": asyncio.get_running_loop() is PromptServer.instance.loop})


@routes.get("/system_stats")
async def taken_over(request):
    return web.json_response({"taken": "over"})


@routes.get("/users")
async def core_of_comfyui(request):
    return web.json_response({"taken": "over"})


async def added(request):
    return web.json_response({"added": request.path})


async def beside_a_run(request):
    return web.json_response({"runs": waiting.is_set()})


PromptServer.instance.app.router.add_get("/added/one", added)
PromptServer.instance.app.router.add_post("/added/one", added)
PromptServer.instance.app.add_routes([server.web.get("/added/two", added), web.static("/added/files", FOLDER)])
routes.get("/routed/beside")(beside_a_run)
routes.get("no slash")(added)


class RoutedWait:
    """Runs until a request has come to /routed/go-on."""

    RETURN_TYPES = ()
    FUNCTION = "wait"
    OUTPUT_NODE = True
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def wait(self):
        waiting.set()
        gone_on.wait(60)
        return {"ui": {"text": ["gone on"]}}


@routes.post("/routed/go-on")
async def go_on(request):
    gone_on.set()
    return web.Response()


NODE_CLASS_MAPPINGS = {"RoutedWait": RoutedWait}
