"""The page at `/`: says that Limner runs, and where to look."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from limner import __version__

UNCACHED = {"cache-control": "no-cache", "pragma": "no-cache", "expires": "0"}

PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Limner</title>
<style>
  body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem; }}
  code, pre {{ font-family: ui-monospace, monospace; font-size: .9rem; }}
  pre {{ padding: .75rem; overflow-x: auto; border: 1px solid #8886; border-radius: .4rem; }}
  @media (prefers-color-scheme: dark) {{ body {{ background: #16181c; color: #e4e6ea; }} a {{ color: #8ab4f8; }} }}
</style>
<h1>Limner runs</h1>
<p>Version {__version__}. This server takes workflows in ComfyUI's API format and speaks ComfyUI's protocol;
ComfyUI's editor is not part of it.</p>
<ul>
  <li><a href="/queue">/queue</a>: what waits and what runs</li>
  <li><a href="/history">/history</a>: what has ended</li>
  <li><a href="/object_info">/object_info</a>: the nodes it knows</li>
  <li><a href="/models/checkpoints">/models/checkpoints</a>: the checkpoints it has</li>
  <li><a href="/system_stats">/system_stats</a>: this machine and its devices</li>
  <li><a href="/readyz">/readyz</a>: whether it is ready</li>
</ul>
<p>Queue a workflow that you exported with Workflow &gt; Export (API):</p>
<pre>curl -X POST http://HOST:PORT/prompt -d "{{\\"prompt\\": $(cat workflow_api.json)}}"</pre>
</html>
"""


def router() -> APIRouter:
    routes = APIRouter()

    @routes.api_route("/", methods=["GET", "HEAD"])
    async def home() -> HTMLResponse:
        return HTMLResponse(PAGE, headers=UNCACHED)

    return routes
