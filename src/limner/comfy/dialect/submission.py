"""POST /prompt's body, member by member."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from typing import Any

from limner.comfy.dialect.bodies import kind
from limner.errors import WorkflowInvalid, WorkflowIsEditorFormat
from limner.graph.workflow import HOW_TO_EXPORT, is_editor_format

SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")
ID_LENGTH = 256
NO_PROMPT = "No prompt provided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a caller asks for. `prompt` is as it came; checking it is the graph's business."""

    prompt: Any
    prompt_id: str
    client_id: str | None
    number: float | None
    front: bool
    extra_data: dict[str, Any]
    targets: list[str] | None

    @classmethod
    def read(cls, body: Any) -> Submission:
        """Raises WorkflowInvalid, which names the member that is wrong and what would be right."""
        if isinstance(body, list):
            body = {}
        if not isinstance(body, dict):
            raise _wrong("body", f"the body must be a JSON object, not {kind(body)}")
        if "prompt" not in body:
            raise _without_prompt(body)
        extra_data = _extra_data(body)
        client_id = _client_id(body.get("client_id"))
        if client_id is not None:
            extra_data["client_id"] = client_id
        return cls(
            prompt=body["prompt"],
            prompt_id=_prompt_id(body.get("prompt_id")),
            client_id=_client_id(extra_data.get("client_id")),
            number=_number(body["number"]) if "number" in body else None,
            front=bool(body.get("front")),
            extra_data=extra_data,
            targets=_targets(body.get("partial_execution_targets")),
        )


def _without_prompt(body: dict[str, Any]) -> WorkflowInvalid:
    """The commonest slips are a workflow without the envelope, and the editor's own format."""
    if is_editor_format(body):
        return WorkflowIsEditorFormat("invalid_prompt", HOW_TO_EXPORT)
    if body and all(isinstance(node, dict) and "class_type" in node for node in body.values()):
        return WorkflowInvalid("no_prompt", NO_PROMPT, 'The body is a bare workflow; send {"prompt": WORKFLOW}.')
    return WorkflowInvalid("no_prompt", NO_PROMPT, NO_PROMPT)


def _extra_data(body: dict[str, Any]) -> dict[str, Any]:
    """A copy without the tokens of account holders, which are never stored."""
    given = body.get("extra_data")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise _wrong("extra_data", f"extra_data must be an object, not {kind(given)}")
    pnginfo = given.get("extra_pnginfo")
    if not isinstance(pnginfo, dict | None):
        raise _wrong("extra_data", f"extra_data.extra_pnginfo must be an object, not {kind(pnginfo)}")
    return {name: value for name, value in given.items() if name not in SECRETS}


def _prompt_id(value: Any) -> str:
    if value is None:
        return str(uuid.uuid4())
    if isinstance(value, dict | list):
        raise _wrong("prompt_id", f"prompt_id must be a text, not {kind(value)}")
    return _id("prompt_id", str(value))


def _client_id(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, dict | list):
        raise _wrong("client_id", f"client_id must be a text, not {kind(value)}")
    return _id("client_id", str(value))


def _id(name: str, value: str) -> str:
    if not value or len(value) > ID_LENGTH or not value.isprintable():
        raise _wrong(name, f"{name} must have 1 to {ID_LENGTH} printable characters")
    return value


def _number(value: Any) -> float:
    """A number, or a text that is one: smaller ones run sooner."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        shown = f"the text {value[:40]!r}" if isinstance(value, str) else kind(value)
        raise _wrong("number", f"number must be a finite number, not {shown}")
    return number


def _targets(value: Any) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise _wrong("partial_execution_targets", f"partial_execution_targets must be a list, not {kind(value)}")
    return [str(each) for each in value]


def _wrong(member: str, message: str) -> WorkflowInvalid:
    return WorkflowInvalid(f"invalid_{member}", message, member)
