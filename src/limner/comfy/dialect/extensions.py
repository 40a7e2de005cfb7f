"""What node packs bring for the browser: their scripts listed, their files served."""

from __future__ import annotations

import base64
import mimetypes
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from limner.comfy.dialect.answers import empty, json_answer
from limner.comfy.dialect.context import Dialect
from limner.graph.catalogue import Catalogue

SCRIPT = ".js"
TYPES = {".js": "text/javascript", ".mjs": "text/javascript"}
UNKNOWN = "application/octet-stream"


class Extensions:
    """Files come with the catalogue, so that they are there wherever the workers are."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    async def scripts(self, _request: Request) -> Response:
        """The paths of the scripts that the editor loads."""
        web = (await self._catalogue()).web
        return json_answer([f"/extensions/{quote(path)}" for path in sorted(web) if path.endswith(SCRIPT)])

    async def file(self, request: Request) -> Response:
        """One file of a pack."""
        path = request.path_params["path"]
        content = (await self._catalogue()).web.get(path)
        if content is None:
            return empty(404)
        suffix = path[path.rfind(".") :].lower() if "." in path else ""
        kind = TYPES.get(suffix) or mimetypes.guess_type(path)[0] or UNKNOWN
        fresh = {"cache-control": "no-cache"} if suffix in (SCRIPT, ".css") else {}
        return Response(base64.b64decode(content), media_type=kind, headers=fresh)

    async def _catalogue(self) -> Catalogue:
        return await self._dialect.catalogues.current(self._dialect.pool)
