"""`limner convert WORKFLOW`: what the editor saved, as the API format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from limner.cli.reading import read_json

InfoOf = Callable[[str], dict[str, Any] | None]
"""A class's entry of /object_info; None where there is no such class."""


def convert(
    workflow: Annotated[str, typer.Argument(help="A workflow as the editor saves it; - reads standard input.")],
    out: Annotated[Path | None, typer.Option(help="Where to write it.  [default: standard output]")] = None,
    server: Annotated[
        str | None, typer.Option(help="Ask this server which nodes there are; else Limner's own.")
    ] = None,
) -> None:
    """Converts the editor's save format into the API format. Every node that cannot be converted is told."""
    graph = api_format(read_json(workflow), info_source(server))
    text = json.dumps(graph, indent=2, ensure_ascii=False) + "\n"
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")
        print(out)


def api_format(graph: dict[str, Any], info_of: InfoOf) -> dict[str, Any]:
    """The workflow in the API format, converted where it is what the editor saved. Raises WorkflowInvalid."""
    from limner.graph import editor
    from limner.graph.spec import NodeSpec
    from limner.graph.workflow import is_editor_format

    if not is_editor_format(graph):
        return graph

    def find(class_type: str) -> NodeSpec | None:
        info = info_of(class_type)
        return None if info is None else NodeSpec.from_json(info)

    return editor.convert(graph, find).checked()


def info_source(server: str | None) -> InfoOf:
    """Where classes are looked up: on a server, or among Limner's own."""
    if server is not None:
        from limner.cli.remote import Server

        return Server(server).info_of

    from limner.graph.catalogue import Catalogue

    core = Catalogue.core()
    return lambda name: core.node_info(name) if name in core.nodes else None
