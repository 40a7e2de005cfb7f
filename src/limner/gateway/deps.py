"""What a gateway is made of. processes/ chooses the adapters and hands them in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from limner.blobs.port import BlobStore
from limner.bus.port import Bus
from limner.services.catalogues import Catalogues
from limner.services.files import FileStore
from limner.services.jobs import Jobs
from limner.services.presence import Presence

DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The use cases behind the routes, and the few settings that the routes need."""

    jobs: Jobs
    files: FileStore
    catalogues: Catalogues
    presence: Presence
    bus: Bus
    blobs: BlobStore
    tenant: str = DEFAULT_TENANT
    pool: str = "default"
    custom_node_routes: bool = False  # whether node packs answer requests to the routes that they declare
    max_upload_bytes: int = 100 * 1024 * 1024
    draining: asyncio.Event = field(default_factory=asyncio.Event)  # set when it is about to stop: /readyz says so
