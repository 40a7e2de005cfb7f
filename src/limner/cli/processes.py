"""`limner serve`, `limner gateway`, `limner worker`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

Host = Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")]
Port = Annotated[int | None, typer.Option(help="Port to listen on.  [default: 8188]")]
DataDir = Annotated[
    Path | None, typer.Option(help="Where everything is kept.  [default: the user's data folder; see `limner doctor`]")
]
Models = Annotated[
    list[Path] | None,
    typer.Option(help="A folder with checkpoints/, loras/ ... inside; may be given several times."),
]
Output = Annotated[Path | None, typer.Option(help="Folder for readable copies of outputs.  [default: DATA_DIR/output]")]
Workers = Annotated[int | None, typer.Option(help="How many workers, each with an engine.  [default: 1]")]


def serve(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    models: Models = None,
    output: Output = None,
    workers: Workers = None,
) -> None:
    """Starts everything on this machine: gateway, queue, worker and engine. Ctrl-C stops all of it."""
    from limner import logs
    from limner.processes import serve as process
    from limner.settings import Settings

    settings = Settings.from_env(
        host=host,
        port=port,
        data_dir=data_dir,
        models=tuple(models) if models else None,
        output_dir=output,
        workers=workers,
    )
    logs.setup(settings.log_format, settings.log_level)
    for folder in models or ():
        if not folder.is_dir():
            print(f"limner: warning: --models {folder} is no folder", file=sys.stderr)
    raise typer.Exit(process.serve(settings, on_ready=_say_ready))


def gateway(host: Host = None, port: Port = None, data_dir: DataDir = None) -> None:
    """Starts a gateway alone. Needs LIMNER_NATS_URL, and LIMNER_DATABASE_URL and LIMNER_STORE_URL for shared places."""
    from limner.processes import gateway as process
    from limner.settings import Settings

    process.run(Settings.from_env(host=host, port=port, data_dir=data_dir))


def worker(data_dir: DataDir = None, models: Models = None, output: Output = None) -> None:
    """Starts a worker alone. Needs LIMNER_NATS_URL and, away from the gateway's machine, LIMNER_STORE_URL."""
    from limner.processes import worker as process
    from limner.settings import Settings

    process.run(Settings.from_env(data_dir=data_dir, models=_folders(models), output_dir=output))


def _folders(models: list[Path] | None) -> tuple[Path, ...] | None:
    return tuple(models) if models else None


def _say_ready(url: str, seconds: float) -> None:
    print(f"Limner is ready on {url} ({seconds:.1f} s). Ctrl-C stops it.", flush=True)
