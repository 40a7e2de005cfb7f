"""Reads JSON out of request bodies, whatever their content type says. Every fault gets a clear answer."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, NoReturn

from starlette.requests import Request

from limner.errors import MalformedJson, PayloadTooLarge

MAX_DEPTH = 100
"""Workflows nest about ten levels. What is deeper would only break whatever reads it later."""

MAX_BYTES = 16 * 1024 * 1024
"""Room for every workflow that a worker can be sent. Files have a limit of their own, and do not come as JSON."""

THREAD_BYTES = 256 * 1024


async def read_body(request: Request) -> bytes:
    """The whole body. What is longer than JSON may be is refused at once, with no more of it kept than that."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BYTES:
            raise too_large(MAX_BYTES)
    return bytes(body)


def too_large(limit: int) -> PayloadTooLarge:
    """In ComfyUI's words."""
    return PayloadTooLarge(f"Maximum request body size {limit} exceeded.")


async def json_body(request: Request) -> Any:
    """The body as JSON. Raises MalformedJson, PayloadTooLarge."""
    body = await read_body(request)
    return await asyncio.to_thread(parse, body) if len(body) > THREAD_BYTES else parse(body)


async def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises MalformedJson."""
    return an_object(await json_body(request))


def an_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedJson(f"the body must be a JSON object, not {kind(value)}")
    return value


def parse(body: bytes) -> Any:
    """JSON as the standard has it: no NaN, no numbers beyond a double's range, at most MAX_DEPTH levels."""
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError as error:
        raise MalformedJson(f"the body is not JSON: it is not UTF-8 ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise MalformedJson(f"the body is not JSON: {error if body.strip() else 'it is empty'}") from None
    except ValueError:
        raise MalformedJson("the body is not JSON that can be read: a number has thousands of digits") from None
    _check_depth(value)
    if b"\\ud" in body or b"\\uD" in body:
        _check_texts(value)
    return value


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "an object"


def _no_constant(name: str) -> NoReturn:
    raise MalformedJson(f"the body is not JSON: {name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise MalformedJson(f"the body holds a number that is too large: {text[:40]}")
    return number


def _check_depth(value: Any) -> None:
    """Level by level, so that no depth can exhaust the stack."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [each for parent in level for each in _children(parent) if isinstance(each, dict | list)]
        if not level:
            return
    raise _too_deep()


def _children(parent: Any) -> Any:
    if isinstance(parent, dict):
        return parent.values()
    return parent if isinstance(parent, list) else ()


def _check_texts(value: Any) -> None:
    """Half a surrogate pair is allowed in JSON's grammar, but is no text and can be stored nowhere."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise MalformedJson(f"the body holds a text that is no Unicode: {error.reason}") from None


def _too_deep() -> MalformedJson:
    return MalformedJson(f"the body is JSON nested deeper than {MAX_DEPTH} levels")
