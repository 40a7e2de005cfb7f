"""Workflow files as JSON objects."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from limner.errors import Invalid


def read_json(name: str) -> dict[str, Any]:
    """A workflow's JSON object; `-` is standard input. Raises Invalid, saying what is wrong with the file."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Invalid(f"cannot read the workflow {name}: {reason}") from error
    try:
        graph = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{name} is not JSON: {error}") from error
    if not isinstance(graph, dict):
        raise Invalid(f"{name} holds no workflow: it must be a JSON object of nodes")
    wrapped = graph.get("prompt")  # a whole POST /prompt body
    return wrapped if isinstance(wrapped, dict) and "class_type" not in wrapped else graph
