"""Which graphs the replayed server refuses before it runs them, in the recorded words (WIRE 2.1.1, 2.1.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support.replayer.script import FileKey

FAILED = {
    "type": "prompt_outputs_failed_validation",
    "message": "Prompt outputs failed validation",
    "details": "",
    "extra_info": {},
}


def refusal(graph: Any, object_info: dict[str, Any], files: dict[FileKey, bytes]) -> dict[str, Any] | None:
    """The body of the 400 for a class that is not there, a model that is not offered, or a file that is missing."""
    if not isinstance(graph, dict) or not graph:
        error = {"type": "prompt_no_outputs", "message": "Prompt has no outputs", "details": "", "extra_info": {}}
        return {"error": error, "node_errors": {}}
    for node_id, node in graph.items():
        if node.get("class_type") not in object_info:
            message = f"Cannot execute because node {node.get('class_type')} does not exist."
            error = {"type": "invalid_prompt", "message": message, "details": f"Node ID '#{node_id}'"}
            return {"error": error | {"extra_info": {}}, "node_errors": {}}
    faults = {node_id: list(_faults(node, object_info, files)) for node_id, node in graph.items()}
    outputs = [node_id for node_id, node in graph.items() if object_info[node["class_type"]]["output_node"]]
    node_errors = {
        node_id: {"errors": errors, "dependent_outputs": outputs, "class_type": graph[node_id]["class_type"]}
        for node_id, errors in faults.items()
        if errors
    }
    return {"error": FAILED, "node_errors": node_errors} if node_errors else None


def _faults(node: dict[str, Any], object_info: dict[str, Any], files: dict[FileKey, bytes]) -> Iterator[dict[str, Any]]:
    for name, spec in object_info[node["class_type"]]["input"].get("required", {}).items():
        value, options = node.get("inputs", {}).get(name), spec[1] if len(spec) > 1 else {}
        if not isinstance(value, str) or not isinstance(spec[0], list):
            continue
        if options.get("image_upload"):
            if file_key(value) not in files:
                yield {
                    "type": "custom_validation_failed",
                    "message": "Custom validation failed for node",
                    "details": f"{name} - Invalid image file: {value}",
                    "extra_info": {"input_name": name},
                }
        elif value not in spec[0]:
            yield {
                "type": "value_not_in_list",
                "message": "Value not in list",
                "details": f"{name}: '{value}' not in {spec[0]}",
                "extra_info": {"input_name": name, "input_config": [spec[0], options], "received_value": value},
            }


def file_key(value: str) -> FileKey:
    """The file that an input names: `FOLDER/NAME`, with `[input]`, `[output]` or `[temp]` behind it or not."""
    kind = "input"
    for each in ("input", "output", "temp"):
        if value.endswith(f" [{each}]"):
            value, kind = value.removesuffix(f" [{each}]"), each
    subfolder, _, name = value.rpartition("/")
    return kind, subfolder, name
