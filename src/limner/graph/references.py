"""Where a workflow names a tenant's files: in inputs with an upload button, and in foreign packs' boxes without one."""

from __future__ import annotations

from typing import Any

from limner.graph.catalogue import Catalogue
from limner.graph.spec import InputSpec, NodeSpec
from limner.graph.workflow import unwrapped


def may_name_file(node: NodeSpec, spec: InputSpec, value: Any) -> bool:
    """Whether `value` may be the name of one of the tenant's files. Whether there is such a file, others know.

    A foreign class may offer its server's input files without saying so. There a value that is not among the choices
    may name a file that is with the tenant and not yet with that server.
    """
    if not isinstance(value, str) or not value:
        return False
    if spec.upload:
        return value not in spec.first
    return node.foreign and spec.is_box and spec.folder is None and value not in (spec.choices or ())


def named_files(prompt: Any, catalogue: Catalogue) -> list[str]:
    """The values of a workflow in the API format that may name files, each once; `prompt` may be anything."""
    found: dict[str, None] = {}
    for node in prompt.values() if isinstance(prompt, dict) else ():
        name, inputs = (node.get("class_type"), node.get("inputs")) if isinstance(node, dict) else (None, None)
        spec = catalogue.filled.get(name) if isinstance(name, str) else None
        if spec is None or not isinstance(inputs, dict):
            continue
        for each in spec.inputs:
            value = unwrapped(inputs.get(each.name))
            if may_name_file(spec, each, value):
                found[value] = None
    return list(found)
