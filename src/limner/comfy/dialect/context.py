"""What ComfyUI's routes stand on."""

from __future__ import annotations

from dataclasses import dataclass

from limner.blobs.port import BlobStore
from limner.services.catalogues import Catalogues
from limner.services.files import FileStore
from limner.services.jobs import Jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The services, and the few settings that callers see."""

    jobs: Jobs
    files: FileStore
    catalogues: Catalogues
    blobs: BlobStore
    tenant: str
    pool: str
    max_upload_bytes: int

    @property
    def features(self) -> dict[str, object]:
        """Server flags as the editor reads them. What is absent counts as off, so nothing stands here unserved."""
        return {"supports_preview_metadata": True, "max_upload_size": self.max_upload_bytes}
