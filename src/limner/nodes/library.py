"""Gathers the node functions of this folder into a library, and tells its catalogue as data.

`python -m limner.nodes.library --write` writes the catalogue that the gateway has in its wheel.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
from collections.abc import Mapping
from pathlib import Path

from limner import graph, nodes
from limner.engine.library import NodeLibrary
from limner.graph.catalogue import Catalogue
from limner.graph.kinds import NodeType
from limner.models.files import ModelFolders

SHIPPED = Path(graph.__file__).parent / "core_catalogue.json"


def load() -> NodeLibrary:
    """Every node of Limner: whatever `@node` has marked in this folder's modules, and in the folders within."""
    kinds: dict[str, NodeType] = {}
    for found in pkgutil.walk_packages(nodes.__path__, f"{nodes.__name__}."):
        if found.name == __spec__.name:  # this file
            continue
        module = importlib.import_module(found.name)
        marked = (getattr(each, "node", None) for each in vars(module).values())
        kinds |= {kind.spec.name: kind for kind in marked if isinstance(kind, NodeType)}
    return NodeLibrary(kind for _, kind in sorted(kinds.items()))


def catalogue(library: Mapping[str, NodeType], folders: ModelFolders) -> Catalogue:
    """What a gateway must know of these nodes and model files to check a workflow."""
    return Catalogue(
        nodes={name: kind.spec for name, kind in library.items()},
        models={folder: tuple(names) for folder, names in folders.lists().items()},
    )


def core_catalogue() -> str:
    """The catalogue of Limner's own nodes and its built-in model, as the JSON text that ships with it."""
    return json.dumps(catalogue(load(), ModelFolders()).to_json(), indent=1) + "\n"


def main() -> None:
    """Writes the shipped catalogue, or shows it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {SHIPPED.name} instead of showing it")
    if parser.parse_args().write:
        SHIPPED.write_text(core_catalogue(), encoding="utf-8")
    else:
        print(core_catalogue())  # noqa: T201


if __name__ == "__main__":
    main()
