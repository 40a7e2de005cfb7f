"""What the server is and has: nodes, models, machine."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import sys
from pathlib import PurePosixPath
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from limner import __version__
from limner.bus.messages import Heartbeat
from limner.comfy.dialect.answers import empty, json_answer, json_bytes
from limner.comfy.dialect.context import Dialect
from limner.comfy.dialect.node_list import NodeList
from limner.errors import Unavailable
from limner.graph.catalogue import Catalogue

COMFYUI_VERSION = "0.3.64"
"""The version whose protocol and nodes these are, unless every worker drives a ComfyUI. Clients compare it with what
they need."""

FRONTEND_VERSION = "1.27.10"

WORKERS_SECONDS = 1.0
"""How long /system_stats waits to hear of the workers."""

FOLDERS = (
    "checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models", "clip_vision", "style_models",
    "embeddings", "diffusers", "vae_approx", "controlnet", "gligen", "upscale_models", "custom_nodes",
    "hypernetworks", "photomaker", "classifiers", "model_patches", "audio_encoders",
)  # fmt: skip


class Info:
    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._nodes: NodeList | None = None  # of the last catalogue

    async def features(self, _request: Request) -> Response:
        return json_answer(self._dialect.features)

    async def object_info(self, _request: Request) -> Response:
        """Every node's inputs and outputs. Made anew only when the catalogue or the tenant's files have changed."""
        catalogue, names = await self._catalogue(), await self._input_names()
        nodes = self._nodes
        if nodes is None or nodes.catalogue is not catalogue:
            nodes = self._nodes = NodeList(catalogue)
        body = nodes.ready(names)
        return json_bytes(await asyncio.to_thread(nodes.body, names) if body is None else body)

    async def object_info_of_one(self, request: Request) -> Response:
        """One class; an empty object for one that does not exist."""
        name = request.path_params["name"]
        catalogue = await self._catalogue()
        if name not in catalogue.nodes:
            return json_answer({})
        return json_answer({name: catalogue.node_info(name, await self._input_names())})

    async def folders(self, _request: Request) -> Response:
        """The kinds of model files: ComfyUI's, and any that the workers have beside them."""
        return json_answer(list(dict.fromkeys([*FOLDERS, *(await self._catalogue()).models])))

    async def models(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        models = (await self._catalogue()).models
        if kind not in FOLDERS and kind not in models:
            return empty(404)
        return json_answer(sorted(models.get(kind, ())))

    async def embeddings(self, _request: Request) -> Response:
        names = (await self._catalogue()).models.get("embeddings", ())
        return json_answer([str(PurePosixPath(name).with_suffix("")) for name in sorted(names)])

    async def system_stats(self, _request: Request) -> Response:
        """Answers without a bus too: then there are no workers to tell of."""
        try:
            workers = await asyncio.wait_for(self._dialect.catalogues.workers(), WORKERS_SECONDS)
        except (Unavailable, TimeoutError):
            workers = []
        return json_answer(system_stats(workers))

    async def _catalogue(self) -> Catalogue:
        return await self._dialect.catalogues.current(self._dialect.pool)

    async def _input_names(self) -> list[str]:
        return await self._dialect.files.input_names(self._dialect.tenant)


def system_stats(workers: list[Heartbeat]) -> dict[str, Any]:
    """This machine, and the devices of all workers; where there are none yet, the processor."""
    import psutil

    memory = psutil.virtual_memory()
    python = next((each.python_version for each in workers if each.python_version), sys.version)
    torch = next((each.pytorch_version for each in workers if each.pytorch_version), "")
    system = {
        "os": os.name,
        "ram_total": memory.total,
        "ram_free": memory.available,
        "comfyui_version": comfyui_version(workers),
        "required_frontend_version": FRONTEND_VERSION,
        "installed_templates_version": None,
        "required_templates_version": None,
        "python_version": python,
        "pytorch_version": torch,
        "embedded_python": False,
        "argv": ["limner"],
        "limner_version": __version__,
    }
    devices = [device for worker in workers for device in worker.devices]
    return {"system": system, "devices": devices or [_processor(memory.total, memory.available)]}


def comfyui_version(workers: list[Heartbeat]) -> str:
    """What clients may count on: the oldest of the workers' versions where all drive a ComfyUI, else Limner's own."""
    versions = [each.engine_version for each in workers if each.engine == "comfyui" and each.engine_version]
    if not versions or any(each.engine != "comfyui" for each in workers):
        return COMFYUI_VERSION
    return min(versions, key=lambda version: [int(part) for part in re.findall(r"\d+", version)[:4]])


def _processor(total: int, free: int) -> dict[str, Any]:
    sizes = {"vram_total": total, "vram_free": free, "torch_vram_total": total, "torch_vram_free": free}
    return {"name": platform.machine() or "cpu", "type": "cpu", "index": None, **sizes}
