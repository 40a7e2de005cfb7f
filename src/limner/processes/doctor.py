"""`limner doctor`: looks at everything a server stands on, and tries each part once."""

from __future__ import annotations

import asyncio
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from limner import __version__
from limner.bus.port import Bus
from limner.errors import LimnerError
from limner.graph.catalogue import Catalogue
from limner.models.files import ModelFolders
from limner.processes.engines import Chosen, engines_of_worker
from limner.settings import Settings

LIBRARIES = ("fastapi", "uvicorn", "sqlalchemy", "nats-py", "obstore", "pillow", "httpx", "websockets")
ENGINE_LIBRARIES = ("torch", "diffusers", "transformers")
LOW_DISK_BYTES = 2 * 1024**3
GIB = 1024**3
TINY = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "doctor"}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    what: str
    ok: bool
    text: str


Check = tuple[str, Callable[[], str]]


def examine(settings: Settings) -> Iterator[Finding]:
    """Each finding as soon as it is made. A fault in one keeps none of the others from being looked at.

    What only Limner's own engine needs is looked at where that engine is among those of this machine.
    Raises Misconfigured where the engines are not written as they should be.
    """
    engines = engines_of_worker(settings)
    own = any(engine.address is None for engine in engines)
    libraries = LIBRARIES + (ENGINE_LIBRARIES if own else ())
    needed_by_own: list[Check] = [
        ("devices", _devices),
        ("model folders", lambda: _models(settings)),
        ("engine: a tiny workflow", lambda: _try_engine(settings)),
        *([("custom nodes", lambda: _try_custom_nodes(settings))] if settings.custom_nodes else []),
    ]
    checks: list[Check] = [
        ("limner", lambda: f"{__version__}, Python {platform.python_version()}, {platform.platform()}"),
        ("libraries", lambda: _libraries(libraries)),
        ("nats-server", lambda: _nats_server(settings)),
        ("data directory", lambda: _data_dir(settings)),
        ("disk space", lambda: _disk(settings)),
        ("NATS: publish, pull, acknowledge", lambda: asyncio.run(_try_nats(settings))),
        ("SQLite: a commit", lambda: asyncio.run(_try_database())),
        ("blobs: put and get", lambda: asyncio.run(_try_blobs())),
        *(needed_by_own if own else []),
        *((f"ComfyUI {engine.address.shown}", partial(_comfyui, engine)) for engine in engines if engine.address),
    ]
    for what, check in checks:
        try:
            yield Finding(what=what, ok=True, text=check())
        except LimnerError as error:
            yield Finding(what=what, ok=False, text=error.message)
        except Exception as error:  # whatever is wrong here is what the doctor is for
            yield Finding(what=what, ok=False, text=f"{type(error).__name__}: {error}")


def _libraries(names: Sequence[str]) -> str:
    found = []
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            raise LimnerError(f"{name} is not installed; {_help(name)}") from None
    return ", ".join(found)


def _help(library: str) -> str:
    if library in ENGINE_LIBRARIES:
        return (
            "Limner's own engine needs it: run `pip install 'limner[engine]'`, or name a ComfyUI: --engine comfyui=URL"
        )
    return "run `pip install limner`"


def _devices() -> str:
    from limner.enginehost.devices import describe_devices
    from limner.models.device import choose, usable_cores

    chosen = choose()
    [device] = describe_devices(chosen.device)
    cores = f", {usable_cores()} cores" if chosen.device.type == "cpu" else ""
    return f"{device['name']}, {device['vram_total'] / GIB:.1f} GiB ({device['vram_free'] / GIB:.1f} free){cores}"


def _nats_server(settings: Settings) -> str:
    from limner.processes.nats import find_server

    if settings.nats_url:
        return "LIMNER_NATS_URL is set: no server of our own is started"
    program, version = find_server(settings)
    return f"{version}, {program}"


def _data_dir(settings: Settings) -> str:
    settings.prepare_data_dir()
    return f"{settings.data_dir} can be written to"


def _disk(settings: Settings) -> str:
    free = shutil.disk_usage(_existing(settings.data_dir)).free
    if free < LOW_DISK_BYTES:
        raise LimnerError(f"only {free / GIB:.1f} GiB free at {settings.data_dir}")
    return f"{free / GIB:.1f} GiB free"


def _models(settings: Settings) -> str:
    folders = ModelFolders(settings.models, settings.extra_model_paths)
    counts = [f"{len(names)} {folder}" for folder, names in folders.lists().items() if names]
    return f"{', '.join(counts)} in {', '.join(str(root) for root in settings.models)} and built in"


def _comfyui(engine: Chosen) -> str:
    from limner.worker.engines.comfyui.client import Unreachable

    try:
        return asyncio.run(_look_at_comfyui(engine))
    except Unreachable as error:
        if engine.start and error.refused:
            return "it does not run now; --start starts it"
        raise


async def _look_at_comfyui(engine: Chosen) -> str:
    from limner.worker.engines.comfyui.client import ComfyClient

    assert engine.address is not None
    client = ComfyClient(engine.address)
    try:
        system = (await client.system_stats()).get("system")
        queue, nodes = await client.queue(), await client.object_info()
    finally:
        await client.close()
    version = system.get("comfyui_version", "unknown") if isinstance(system, dict) else "unknown"
    return f"version {version}, {len(nodes)} nodes, {len(queue.running)} prompts running, {len(queue.waiting)} waiting"


async def _try_nats(settings: Settings) -> str:
    from limner.bus.jetstream import JetStreamBus
    from limner.bus.messages import Token
    from limner.processes.children import Child
    from limner.processes.nats import NatsServer, find_server

    with tempfile.TemporaryDirectory(prefix="limner-doctor-") as folder:
        url, server, child = settings.nats_url, None, None
        if not url:
            program, _ = find_server(settings)
            server = NatsServer(program, folder=Path(folder) / "nats", log_file=Path(folder) / "nats.log")
            child = Child("nats-server", server.command)
            child.start()
            url = server.url
        try:
            bus = await JetStreamBus.connect(url)
            try:
                await asyncio.wait_for(_until_connected(bus), 10.0)
                await bus.publish_token("doctor", "any", Token(id="doctor", epoch=0))
                delivery = await bus.pull("doctor", ["any"])
                if delivery is None:
                    raise LimnerError("a published token did not come back")
                await delivery.ack()
            finally:
                await bus.close()
        finally:
            if child is not None and server is not None:
                await child.stop()
                server.release()
    return "a token went there and back"


async def _until_connected(bus: Bus) -> None:
    while not bus.connected:  # noqa: ASYNC110 - the port tells no more
        await asyncio.sleep(0.01)


async def _try_database() -> str:
    from limner.db.session import Database

    with _folder() as folder:
        database = await Database.open(f"sqlite:///{folder / 'db.sqlite'}")
        await database.close()
    return "made and migrated a database"


async def _try_blobs() -> str:
    from limner.blobs.objects import ObjectStore

    with _folder() as folder:
        store = ObjectStore(folder.as_uri())
        await store.put("t/doctor/blob", b"limner")
        if await store.get("t/doctor/blob") != b"limner":
            raise LimnerError("a blob came back with other bytes")
    return "the bytes came back"


def _try_engine(settings: Settings) -> str:
    from limner.processes.oneshot import OneShot, run_once

    with _folder() as folder:
        [path] = run_once(TINY, OneShot(models=settings.models, inputs=folder, out=folder), watch=lambda *_: None)
        return f"made a picture of {path.stat().st_size} bytes on {sys.executable}"


def _try_custom_nodes(settings: Settings) -> str:
    """Runs the same with the packs loaded, and tells what became of each."""
    from limner.processes.oneshot import OneShot, run_once

    found: list[Mapping[str, Any]] = []

    def prepare(catalogue: Catalogue) -> dict[str, Any]:
        found.extend(catalogue.packs)
        return TINY

    with _folder() as folder:
        shot = OneShot(models=settings.models, custom_nodes=settings.custom_nodes, inputs=folder, out=folder)
        run_once(prepare, shot, watch=lambda *_: None)
    wrong = [f"{pack['name']}: {pack['fault']}" for pack in found if pack["fault"]]
    wrong += [f"{pack['name']}: no node {name}: {why}" for pack in found for name, why in pack["left_out"].items()]
    if wrong:
        raise LimnerError("; ".join(wrong))
    return ", ".join(f"{pack['name']} ({pack['nodes']} nodes)" for pack in found) or "no packs there"


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="limner-doctor-") as name:
        yield Path(name)


def _existing(path: Path) -> Path:
    """The path, or the nearest of its parents that is there."""
    return next(place for place in (path, *path.parents) if place.exists())
