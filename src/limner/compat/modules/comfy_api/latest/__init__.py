"""The newest version of the interface."""

from __future__ import annotations

from typing import Any

from limner.compat.api.nodes import ComfyExtension as ComfyExtension
from limner.compat.modules.comfy_api.latest import io as io
from limner.compat.modules.comfy_api.latest import ui as ui
from limner.compat.modules.comfy_api.latest.media import Input as Input
from limner.compat.modules.comfy_api.latest.media import InputImpl as InputImpl
from limner.compat.modules.comfy_api.latest.media import Types as Types
from limner.compat.place import here
from limner.compat.previews import as_picture, encoded

PREVIEW_PX = 512


class Execution:
    """What a running node may tell."""

    async def set_progress(
        self,
        value: float,
        max_value: float,
        node_id: str | None = None,
        preview_image: Any = None,
        ignore_size_limit: bool = False,
    ) -> None:
        """How far the node is, with a picture (Pillow's, or a tensor (H, W, C) or (B, H, W, C)) if there is one."""
        _tell(value, max_value, preview_image, ignore_size_limit)


class ComfyAPI:
    """For async code."""

    VERSION = "latest"
    STABLE = False

    def __init__(self) -> None:
        self.execution = Execution()


class ExecutionSync:
    """The same for plain code."""

    def set_progress(
        self,
        value: float,
        max_value: float,
        node_id: str | None = None,
        preview_image: Any = None,
        ignore_size_limit: bool = False,
    ) -> None:
        _tell(value, max_value, preview_image, ignore_size_limit)


class ComfyAPISync:
    """For plain code."""

    def __init__(self) -> None:
        self.execution = ExecutionSync()


ComfyAPI_latest = ComfyAPI
ComfyAPISync_latest = ComfyAPISync


def _tell(value: float, max_value: float, preview_image: Any, ignore_size_limit: bool) -> None:
    ctx = here().running()
    if ctx is None:
        return
    picture = None
    if preview_image is not None and ctx.previews:
        picture = encoded(("JPEG", as_picture(preview_image), None if ignore_size_limit else PREVIEW_PX))
    ctx.progress(value, max_value, picture)
