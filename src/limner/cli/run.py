"""`limner run WORKFLOW`: one workflow, here or on a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limner.cli.caching import CacheLru, CacheNone, CacheRam, cache_policy
from limner.cli.convert import api_format
from limner.cli.memory import AllowPickle, ExtraModelPaths, RamBudget, VramBudget
from limner.cli.processes import CustomNodes, several
from limner.cli.reading import read_json

if TYPE_CHECKING:
    from limner.graph.catalogue import Catalogue
    from limner.settings import Settings


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
    custom_nodes: CustomNodes = None,
    cache_lru: CacheLru = None,
    cache_ram: CacheRam = None,
    cache_none: CacheNone = False,
    extra_model_paths: ExtraModelPaths = None,
    allow_pickle: AllowPickle = None,
    vram_budget: VramBudget = None,
    ram_budget: RamBudget = None,
) -> None:
    """Runs one workflow and prints the paths of what it made."""
    graph = read_json(workflow)
    if server is not None:
        paths = _on_server(server, graph, settings or [], out)
    else:
        here = Path() if workflow == "-" else Path(workflow).parent
        from limner.settings import Settings

        configured = Settings.from_env(
            models=several(models),
            custom_nodes=several(custom_nodes),
            cache=cache_policy(cache_lru, cache_ram, cache_none),
            extra_model_paths=several(extra_model_paths),
            allow_pickle=allow_pickle,
            vram_budget_gb=vram_budget,
            ram_budget_gb=ram_budget,
        )
        paths = _here(graph, settings or [], out, inputs or here, configured)
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


def _here(graph: dict[str, Any], settings: list[str], out: Path, inputs: Path, configured: Settings) -> list[Path]:
    from limner import logs
    from limner.cli.assignments import apply
    from limner.cli.display import Display
    from limner.processes.model_options import model_options
    from limner.processes.oneshot import OneShot, run_once

    logs.setup(configured.log_format, "warning")

    def prepare(catalogue: Catalogue) -> dict[str, Any]:
        def info_of(name: str) -> dict[str, Any] | None:
            return catalogue.node_info(name) if name in catalogue.nodes else None

        for pack in catalogue.packs:
            if pack["fault"]:
                print(f"limner: warning: the pack {pack['name']} is not loaded: {pack['fault']}", file=sys.stderr)
        return apply(api_format(graph, info_of), settings, info_of)

    shot = OneShot(
        models=configured.models,
        custom_nodes=configured.custom_nodes,
        cache=configured.cache,
        extra_model_paths=configured.extra_model_paths,
        options=model_options(configured),
        inputs=inputs,
        out=out,
    )
    with Display(graph) as display:
        return run_once(prepare, shot, watch=lambda kind, data: _show(kind, data, display))


def _show(kind: str, data: dict[str, Any], display: Any) -> None:
    match kind:
        case "NodeStarted":
            display.node(data["node"]["display"])
        case "StepDone":
            display.step(data["value"], data["maximum"])
        case "Warned":
            display.note(f"warning: {data['text']}")
