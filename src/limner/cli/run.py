"""`limner run WORKFLOW`: one workflow, here or on a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from limner.cli.convert import api_format
from limner.cli.reading import read_json


def run(
    workflow: Annotated[
        str, typer.Argument(help="A workflow, in the API format or as the editor saves it; - reads standard input.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NODE.INPUT=VALUE", help="Another value for an input, once or more often."),
    ] = None,
    server: Annotated[str | None, typer.Option(help="Run it on this server; without, here and with none.")] = None,
    out: Annotated[Path, typer.Option(help="Where the results are put.")] = Path("limner-out"),
    inputs: Annotated[
        Path | None, typer.Option("--input", help="Folder of input files.  [default: the workflow's own folder]")
    ] = None,
    models: Annotated[
        list[Path] | None, typer.Option(help="A folder with checkpoints/, loras/ ...; may be given several times.")
    ] = None,
) -> None:
    """Runs one workflow and prints the paths of what it made."""
    graph = read_json(workflow)
    if server is not None:
        paths = _on_server(server, graph, settings or [], out)
    else:
        here = Path() if workflow == "-" else Path(workflow).parent
        paths = _here(graph, settings or [], out, inputs or here, tuple(models) if models else None)
    for path in paths:
        print(path)


def _on_server(url: str, graph: dict[str, Any], settings: list[str], out: Path) -> list[Path]:
    from limner.cli.assignments import apply
    from limner.cli.display import Display
    from limner.cli.remote import Server

    server = Server(url)
    graph = apply(api_format(graph, server.info_of), settings, server.info_of)
    with Display(graph) as display:
        return server.run(graph, display, out)


def _here(
    graph: dict[str, Any], settings: list[str], out: Path, inputs: Path, models: tuple[Path, ...] | None
) -> list[Path]:
    from limner import logs
    from limner.cli.assignments import apply
    from limner.cli.display import Display
    from limner.processes.oneshot import OneShot, local_catalogue, run_once
    from limner.settings import Settings

    configured = Settings.from_env(models=models)
    logs.setup(configured.log_format, "warning")
    catalogue = local_catalogue(configured.models)

    def info_of(name: str) -> dict[str, Any] | None:
        return catalogue.node_info(name) if name in catalogue.nodes else None

    graph = apply(api_format(graph, info_of), settings, info_of)
    shot = OneShot(models=configured.models, inputs=inputs, out=out)
    with Display(graph) as display:
        return run_once(graph, shot, watch=lambda kind, data: _show(kind, data, display))


def _show(kind: str, data: dict[str, Any], display: Any) -> None:
    match kind:
        case "NodeStarted":
            display.node(data["node"]["display"])
        case "StepDone":
            display.step(data["value"], data["maximum"])
        case "Warned":
            display.note(f"warning: {data['text']}")
