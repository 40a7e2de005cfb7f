"""From errors to answers, in one place."""

from __future__ import annotations

from http import HTTPStatus
from typing import cast

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from limner.comfy.dialect.answers import empty, error_answer, error_body, json_answer
from limner.errors import LimnerError


def install(app: FastAPI) -> None:
    """Every route may raise LimnerError; what else it raises ends in the Edge as a 500."""
    app.add_exception_handler(LimnerError, _limner_error)
    app.add_exception_handler(HTTPException, _http_error)


async def _limner_error(_request: Request, error: Exception) -> Response:
    answer = error_answer(cast(LimnerError, error))
    if cast(LimnerError, error).retryable:
        answer.headers["retry-after"] = "1"
    return answer


async def _http_error(_request: Request, error: Exception) -> Response:
    """What the router and the form reader raise. ComfyUI gives 404 no body, and 405 this text."""
    raised = cast(HTTPException, error)
    if raised.status_code == HTTPStatus.NOT_FOUND:
        return empty(404)
    if raised.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ",".join(sorted((raised.headers or {}).get("Allow", "").replace(" ", "").split(",")))
        return Response("405: Method Not Allowed", 405, headers={"allow": allowed}, media_type="text/plain")
    phrase = HTTPStatus(raised.status_code).phrase
    return json_answer(error_body("invalid_input", str(raised.detail), phrase), raised.status_code)
