"""`limner serve`, `limner gateway`, `limner worker`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from limner.cli.caching import CacheLru, CacheNone, CacheRam, cache_policy
from limner.cli.memory import AllowPickle, ExtraModelPaths, RamBudget, VramBudget

T = TypeVar("T")

Host = Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")]
Port = Annotated[int | None, typer.Option(help="Port to listen on.  [default: 8188]")]
DataDir = Annotated[
    Path | None, typer.Option(help="Where everything is kept.  [default: the user's data folder; see `limner doctor`]")
]
Models = Annotated[
    list[Path] | None,
    typer.Option(help="A folder with checkpoints/, loras/ ... inside; may be given several times."),
]
CustomNodes = Annotated[
    list[Path] | None,
    typer.Option(
        "--custom-nodes",
        metavar="DIR",
        help="A folder with packs of custom nodes, whose code is run; may be given several times.  [default: none]",
    ),
]
CustomNodeRoutes = Annotated[
    bool | None,
    typer.Option("--custom-node-routes", help="Let packs answer HTTP requests to the routes that they declare."),
]
Output = Annotated[Path | None, typer.Option(help="Folder for readable copies of outputs.  [default: DATA_DIR/output]")]
Workers = Annotated[int | None, typer.Option(help="How many workers, each with an engine.  [default: 1]")]
Engines = Annotated[
    list[str] | None,
    typer.Option(
        "--engine",
        metavar="own|comfyui=URL",
        help="Limner's own engine, or a ComfyUI that runs at a URL; may be given several times.  [default: own]",
    ),
]
Starts = Annotated[
    list[str] | None,
    typer.Option(
        "--start",
        metavar="COMMAND",
        help="Starts the ComfyUI of --engine, with its {host}, {port}, {index} (0, 1 ...): one for each or for all.",
    ),
]
Hang = Annotated[
    float | None,
    typer.Option("--comfyui-hang", metavar="SECONDS", help="A ComfyUI silent for so long hangs.  [default: 900]"),
]
Free = Annotated[
    float | None,
    typer.Option(
        "--comfyui-free", metavar="SECONDS", help="Unload models of a ComfyUI idle for so long.  [default: never]"
    ),
]
Temp = Annotated[
    bool | None,
    typer.Option("--comfyui-temp/--no-comfyui-temp", help="Fetch a ComfyUI's temporary pictures too.  [default: yes]"),
]


def serve(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    models: Models = None,
    custom_nodes: CustomNodes = None,
    custom_node_routes: CustomNodeRoutes = None,
    cache_lru: CacheLru = None,
    cache_ram: CacheRam = None,
    cache_none: CacheNone = False,
    extra_model_paths: ExtraModelPaths = None,
    allow_pickle: AllowPickle = None,
    vram_budget: VramBudget = None,
    ram_budget: RamBudget = None,
    output: Output = None,
    workers: Workers = None,
    engine: Engines = None,
    start: Starts = None,
    comfyui_hang: Hang = None,
    comfyui_free: Free = None,
    comfyui_temp: Temp = None,
) -> None:
    """Starts everything on this machine: gateway, queue, worker and engine. Ctrl-C stops all of it."""
    from limner import logs
    from limner.processes import serve as process
    from limner.settings import Settings

    settings = Settings.from_env(
        host=host,
        port=port,
        data_dir=data_dir,
        models=several(models),
        custom_nodes=several(custom_nodes),
        custom_node_routes=custom_node_routes,
        cache=cache_policy(cache_lru, cache_ram, cache_none),
        extra_model_paths=several(extra_model_paths),
        allow_pickle=allow_pickle,
        vram_budget_gb=vram_budget,
        ram_budget_gb=ram_budget,
        output_dir=output,
        workers=workers,
        engines=several(engine),
        starts=several(start),
        comfyui_hang_seconds=comfyui_hang,
        comfyui_free_seconds=comfyui_free,
        comfyui_temp=comfyui_temp,
    )
    logs.setup(settings.log_format, settings.log_level)
    for folder in models or ():
        if not folder.is_dir():
            print(f"limner: warning: --models {folder} is no folder", file=sys.stderr)
    for folder in custom_nodes or ():
        if not folder.is_dir():
            print(f"limner: warning: --custom-nodes {folder} is no folder", file=sys.stderr)
    raise typer.Exit(process.serve(settings, on_ready=_say_ready))


def gateway(
    host: Host = None, port: Port = None, data_dir: DataDir = None, custom_node_routes: CustomNodeRoutes = None
) -> None:
    """Starts a gateway alone. Needs LIMNER_NATS_URL, and LIMNER_DATABASE_URL and LIMNER_STORE_URL for shared places."""
    from limner.processes import gateway as process
    from limner.settings import Settings

    process.run(Settings.from_env(host=host, port=port, data_dir=data_dir, custom_node_routes=custom_node_routes))


def worker(
    data_dir: DataDir = None,
    models: Models = None,
    custom_nodes: CustomNodes = None,
    custom_node_routes: CustomNodeRoutes = None,
    cache_lru: CacheLru = None,
    cache_ram: CacheRam = None,
    cache_none: CacheNone = False,
    extra_model_paths: ExtraModelPaths = None,
    allow_pickle: AllowPickle = None,
    vram_budget: VramBudget = None,
    ram_budget: RamBudget = None,
    output: Output = None,
    engine: Engines = None,
    start: Starts = None,
    comfyui_hang: Hang = None,
    comfyui_free: Free = None,
    comfyui_temp: Temp = None,
) -> None:
    """Starts a worker for each engine. Needs LIMNER_NATS_URL and, away from the gateway's machine, LIMNER_STORE_URL."""
    from limner.processes import worker as process
    from limner.settings import Settings

    settings = Settings.from_env(
        data_dir=data_dir,
        models=several(models),
        custom_nodes=several(custom_nodes),
        custom_node_routes=custom_node_routes,
        cache=cache_policy(cache_lru, cache_ram, cache_none),
        extra_model_paths=several(extra_model_paths),
        allow_pickle=allow_pickle,
        vram_budget_gb=vram_budget,
        ram_budget_gb=ram_budget,
        output_dir=output,
        engines=several(engine),
        starts=several(start),
        comfyui_hang_seconds=comfyui_hang,
        comfyui_free_seconds=comfyui_free,
        comfyui_temp=comfyui_temp,
    )
    raise typer.Exit(process.run(settings))


def several(given: list[T] | None) -> tuple[T, ...] | None:
    """What an option was given, None where it was not."""
    return tuple(given) if given else None


def _say_ready(url: str, seconds: float) -> None:
    print(f"Limner is ready on {url} ({seconds:.1f} s). Ctrl-C stops it.", flush=True)
