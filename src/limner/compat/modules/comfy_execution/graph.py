"""The running graph, and the value that stops what is behind it."""

from __future__ import annotations

from typing import Any

from limner.engine.blocker import ExecutionBlocker as ExecutionBlocker
from limner.engine.dynprompt import DynamicPrompt as DynamicPrompt
from limner.engine.dynprompt import NodeNotFound
from limner.errors import LimnerError

NodeNotFoundError = NodeNotFound


class NodeInputError(LimnerError):
    """An input of a node that cannot be used."""


class DependencyCycleError(LimnerError):
    """Nodes that wait for each other."""


def get_input_info(
    class_def: Any, input_name: str, valid_inputs: dict[str, Any] | None = None
) -> tuple[Any, str | None, Any]:
    """(type, section, options) of an input of a class; three times None where it has none of this name."""
    sections = valid_inputs or class_def.INPUT_TYPES()
    for kind in ("required", "optional", "hidden"):
        if input_name in sections.get(kind, {}):
            given = sections[kind][input_name]
            parts = given if isinstance(given, tuple | list) else (given,)
            return parts[0], kind, parts[1] if len(parts) > 1 else {}
    return None, None, None
