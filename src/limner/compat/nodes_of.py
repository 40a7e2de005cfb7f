"""The node classes of an imported pack: its NODE_CLASS_MAPPINGS, else what its `comfy_entrypoint` gives."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any

from limner.compat.classes import ClassNode, UnfitClass
from limner.compat.pack import NoNodes, Pack, explain, finish
from limner.compat.schema import SchemaNode, is_schema_class
from limner.graph.folders import Folders
from limner.graph.kinds import NodeType


def read(module: ModuleType, pack: Pack, python_module: str, core: Collection[str], folders: Folders) -> None:
    """Fills in the pack's kinds. Raises NoNodes, and whatever its entry point raises."""
    classes = getattr(module, "NODE_CLASS_MAPPINGS", None)
    if isinstance(classes, Mapping):
        named = {str(name): node_class for name, node_class in classes.items()}
    elif callable(getattr(module, "comfy_entrypoint", None)):
        named = _of_entry_point(module)
    else:
        raise NoNodes("it gives no nodes: there is neither NODE_CLASS_MAPPINGS nor comfy_entrypoint")
    titles = getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None)
    titles = titles if isinstance(titles, Mapping) else {}
    for name, node_class in named.items():
        if name in core:
            pack.left_out[name] = "Limner has a node of this name itself"
            continue
        title = titles.get(name)
        try:
            pack.kinds[name] = _kind(name, node_class, python_module, title, folders)
        except UnfitClass as error:
            pack.left_out[name] = explain(error.__cause__) if error.__cause__ else error.message


def _kind(name: str, node_class: Any, module: str, title: Any, folders: Folders) -> NodeType:
    if is_schema_class(node_class):
        return SchemaNode.of(name, node_class, module=module, folders=folders)
    return ClassNode.of(
        name, node_class, module=module, display_name=str(title) if title is not None else None, folders=folders
    )


def _of_entry_point(module: ModuleType) -> dict[str, Any]:
    extension = finish(module.comfy_entrypoint())
    on_load = getattr(extension, "on_load", None)
    if on_load is not None:
        finish(on_load())
    return {node_class.GET_SCHEMA().node_id: node_class for node_class in finish(extension.get_node_list())}
