"""Answers as ComfyUI words them: JSON with its charset told, empty ones, and errors."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from limner.comfy.dialect.frames import compact
from limner.errors import LimnerError, PayloadTooLarge, WorkflowInvalid

JSON_TYPE = "application/json; charset=utf-8"


def json_answer(value: Any, status: int = 200) -> Response:
    return json_bytes(encode(value), status)


def json_bytes(body: bytes, status: int = 200) -> Response:
    return Response(body, status, headers={"content-type": JSON_TYPE})


def encode(value: Any) -> bytes:
    return compact(value).encode()


def empty(status: int = 200) -> Response:
    return Response(None, status)


def error_answer(error: LimnerError) -> Response:
    """ComfyUI's error object. It knows no 422: a workflow with faults is a 400."""
    if isinstance(error, PayloadTooLarge):
        return Response(error.message, 413, headers={"content-type": "text/plain; charset=utf-8"})
    node_errors: dict[str, Any] = {}
    kind, message, details = error.code, error.message, ""
    if isinstance(error, WorkflowInvalid):
        kind, message, details = error.kind, error.title, error.fault_details
        node_errors = error.node_errors
    status = 400 if error.status == 422 else error.status
    return json_answer(error_body(kind, message, details, node_errors), status)


def error_body(
    kind: str, message: str, details: str = "", node_errors: dict[str, Any] | None = None, **extra: Any
) -> dict[str, Any]:
    told = {"type": kind, "message": message, "details": details, "extra_info": extra}
    return {"error": told, "node_errors": node_errors or {}}
