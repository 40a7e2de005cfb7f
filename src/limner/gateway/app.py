"""The gateway as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from limner import __version__
from limner.comfy.dialect.context import Dialect
from limner.comfy.dialect.routes import routes as dialect_routes
from limner.comfy.dialect.socket import Sockets
from limner.gateway import errors
from limner.gateway.deps import Services
from limner.gateway.edge import Edge
from limner.gateway.packs import PackFace
from limner.gateway.routes import health, home
from limner.services.pack_routes import PackRoutes


def create_app(services: Services) -> FastAPI:
    """All faces of the gateway over these services, which the caller has started and will stop."""
    dialect = Dialect(
        jobs=services.jobs,
        files=services.files,
        catalogues=services.catalogues,
        blobs=services.blobs,
        tenant=services.tenant,
        pool=services.pool,
        max_upload_bytes=services.max_upload_bytes,
    )
    sockets = Sockets(bus=services.bus, jobs=services.jobs, presence=services.presence, features=dict(dialect.features))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await sockets.start(services.tenant)
        try:
            yield
        finally:
            await sockets.close()

    app = FastAPI(
        title="Limner",
        version=__version__,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        routes=dialect_routes(dialect, sockets),
    )
    app.include_router(health.router(services))
    app.include_router(home.router())
    if services.custom_node_routes:
        routes = PackRoutes(services.bus, services.blobs, services.catalogues)
        app.router.default = PackFace(routes, services.pool, otherwise=app.router.default)
    app.add_middleware(Edge, max_body_bytes=services.max_upload_bytes)
    errors.install(app)
    return app
