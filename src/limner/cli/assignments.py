"""`--set 6.text="a red apple"`: other values for inputs of a workflow, read by each input's type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

from limner.errors import Invalid

InfoOf = Callable[[str], dict[str, Any] | None]
"""A class's entry of /object_info, None where there is no such class."""

BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
MANY = 12


class BadSetting(Invalid):
    """A `--set` that names nothing, or has a value that its input cannot take."""


def apply(workflow: dict[str, Any], settings: Iterable[str], info_of: InfoOf) -> dict[str, Any]:
    """A copy of the workflow with these inputs set. Raises BadSetting, which lists what there is."""
    changed = deepcopy(workflow)
    for setting in settings:
        where, equals, text = setting.partition("=")
        node_id, dot, name = where.rpartition(".")
        if not equals or not dot or not name:
            raise BadSetting(f"--set {setting}: write it as NODE.INPUT=VALUE, such as 6.text='a red apple'")
        node = changed.get(node_id)
        if not isinstance(node, dict):
            raise BadSetting(f"--set {where}: there is no node {node_id!r}; the nodes are {_nodes(changed)}")
        inputs = node.setdefault("inputs", {})
        if not isinstance(inputs, dict):
            raise BadSetting(f"--set {where}: the inputs of node {node_id!r} are no JSON object")
        inputs[name] = _read(text, where, name, node, info_of(str(node.get("class_type"))))
    return changed


def _read(text: str, where: str, name: str, node: dict[str, Any], info: dict[str, Any] | None) -> Any:
    declared = {
        k: v for group in ("required", "optional") for k, v in (info or {}).get("input", {}).get(group, {}).items()
    }
    if info is not None and name not in declared:
        values = ", ".join(declared) or "none"
        raise BadSetting(f"--set {where}: {node.get('class_type')} has no input {name!r}; its inputs are {values}")
    kind, options = _type_of(declared.get(name, ["STRING"]))
    if isinstance(kind, list):
        return _choice(text, where, kind)
    match kind:
        case "INT":
            return _number(text, where, int, "a whole number")
        case "FLOAT":
            return _number(text, where, float, "a number")
        case "BOOLEAN":
            if text.lower() not in BOOLEANS:
                raise BadSetting(f"--set {where}={text}: write true or false")
            return BOOLEANS[text.lower()]
        case "STRING":
            return text
        case "COMBO":
            return _choice(text, where, options.get("options", []))
        case _:
            raise BadSetting(f"--set {where}: this input takes a {kind} from another node, not a value")


def _type_of(declared: Any) -> tuple[Any, dict[str, Any]]:
    return declared[0], declared[1] if len(declared) > 1 else {}


def _number(text: str, where: str, read: Callable[[str], Any], wanted: str) -> Any:
    try:
        return read(text)
    except ValueError:
        raise BadSetting(f"--set {where}={text}: {text!r} is not {wanted}") from None


def _choice(text: str, where: str, choices: list[Any]) -> Any:
    for choice in choices:
        if str(choice) == text:
            return choice
    shown = ", ".join(str(choice) for choice in choices[:MANY]) + (" ..." if len(choices) > MANY else "")
    raise BadSetting(f"--set {where}={text}: it is not among {shown or 'the choices (there are none)'}")


def _nodes(workflow: dict[str, Any]) -> str:
    named = [f"{node_id} ({node.get('class_type')})" for node_id, node in workflow.items() if isinstance(node, dict)]
    return ", ".join(named[:MANY]) + (" ..." if len(named) > MANY else "")
