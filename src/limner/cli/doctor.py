"""`limner doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limner.cli.processes import CustomNodes, Engines, Starts, several


def doctor(
    data_dir: Annotated[Path | None, typer.Option(help="The data directory to look at.")] = None,
    models: Annotated[list[Path] | None, typer.Option(help="A model folder to look at, once or more often.")] = None,
    custom_nodes: CustomNodes = None,
    engine: Engines = None,
    start: Starts = None,
) -> None:
    """Looks at what a server stands on, and tries each part once. Exit code 1 if something is wrong."""
    from rich.console import Console

    from limner import logs
    from limner.processes.doctor import examine
    from limner.settings import Settings

    logs.setup("auto", "error")
    console = Console(highlight=False)
    settings = Settings.from_env(
        data_dir=data_dir,
        models=several(models),
        custom_nodes=several(custom_nodes),
        engines=several(engine),
        starts=several(start),
    )
    wrong = 0
    for finding in examine(settings):
        wrong += not finding.ok
        mark = "[green]ok   [/]" if finding.ok else "[red]WRONG[/]"
        console.print(mark, end=" ")
        console.print(f"{finding.what}: {finding.text}", markup=False, soft_wrap=True)
    if wrong:
        raise typer.Exit(1)
