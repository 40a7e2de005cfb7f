"""Answers what workers ask over the bus: claim, resume, reserve, keep, done, catalogue."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from limner import logs
from limner.bus import subjects
from limner.bus.messages import (
    CatalogueAnswer,
    CatalogueOffer,
    Claim,
    Claimed,
    Done,
    Keep,
    Message,
    Reserve,
    Reserved,
    Resume,
    Resumed,
    Settled,
)
from limner.bus.port import Bus, Responder, Subscription
from limner.errors import Invalid, Unavailable
from limner.services.attempts import Attempts
from limner.services.catalogues import Catalogues

log = logs.get("limner.dispatch.rpc")

Q = TypeVar("Q", bound=Message)

HINTS: dict[type[Message], dict[str, Any]] = {
    kind: {name: hint for name, hint in get_type_hints(kind).items() if name != "v"}
    for kind in (Claim, Resume, Done, Reserve, Keep, CatalogueOffer)
}
FILE_MEMBERS = {"key": str, "filename": str, "subfolder": str, "size_bytes": int, "sha256": str}
KEPT_MEMBERS = {"filename": str, "subfolder": str, "sha256": str}
OUTCOMES = ("succeeded", "failed", "interrupted", "returned", "unfit")


async def serve_workers(bus: Bus, attempts: Attempts, catalogues: Catalogues) -> list[Subscription]:
    """Begins to answer. A message that cannot be read, or that the gateway stumbles over, gets `ok` false.

    While the database is away there is no answer at all: the worker keeps its lease and asks again.
    """
    return [
        await bus.serve(subjects.CLAIM, subjects.GATEWAYS, _responder(Claim, attempts.claim, Claimed)),
        await bus.serve(subjects.RESUME, subjects.GATEWAYS, _responder(Resume, attempts.resume, Resumed)),
        await bus.serve(subjects.DONE, subjects.GATEWAYS, _responder(Done, attempts.done, Settled)),
        await bus.serve(subjects.RESERVE, subjects.GATEWAYS, _responder(Reserve, attempts.reserve, Reserved)),
        await bus.serve(subjects.KEEP, subjects.GATEWAYS, _responder(Keep, attempts.keep, Reserved)),
        await bus.serve(
            subjects.CATALOGUE, subjects.GATEWAYS, _responder(CatalogueOffer, catalogues.offer, CatalogueAnswer)
        ),
    ]


def _responder(
    question: type[Q], answer: Callable[[Q], Awaitable[Message]], refusal: Callable[..., Message]
) -> Responder:
    async def respond(body: bytes) -> Message:
        try:
            asked = read(question, body)
        except Invalid as error:
            log.warning("a worker sent a bad message", kind=question.__name__, error=error.message)
            return refusal(ok=False, reason=error.message)
        try:
            return await answer(asked)
        except Unavailable:
            raise
        except Exception:  # asked again it would end the same way, and the worker would ask for ever
            log.exception("the gateway failed on a worker's message", kind=question.__name__)
            return refusal(ok=False, reason="the gateway failed on this message")

    return respond


def read(kind: type[Q], body: bytes) -> Q:
    """A message whose members have the types that they are declared with. Raises Invalid, naming one that has not."""
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{kind.__name__}: not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise Invalid(f"{kind.__name__}: not an object")
    hints = HINTS[kind]
    for name, value in raw.items():
        if name in hints and not _fits(value, hints[name]):
            raise Invalid(f"{kind.__name__}: {name} is of type {type(value).__name__}")
    missing = [f.name for f in dataclasses.fields(kind) if f.name not in raw and _is_required(f)]
    if missing:
        raise Invalid(f"{kind.__name__}: without {', '.join(missing)}")
    message = kind(**{name: value for name, value in raw.items() if name in hints})
    if isinstance(message, Done):
        _check_done(message)
    elif isinstance(message, Keep):
        _check_files("Keep", message.files, KEPT_MEMBERS)
    return message


def _check_done(message: Done) -> None:
    if message.outcome not in OUTCOMES:
        raise Invalid(f"Done: outcome is {message.outcome!r}")
    for entry in message.messages:
        if len(entry) != 2 or not isinstance(entry[0], str) or not isinstance(entry[1], dict):
            raise Invalid("Done: messages must be pairs of a name and an object")
    _check_files("Done", message.files, FILE_MEMBERS)


def _check_files(where: str, files: list[dict[str, Any]], members: Mapping[str, type]) -> None:
    for file in files:
        for name, kind in members.items():
            if not isinstance(file.get(name), kind):
                raise Invalid(f"{where}: a file without a proper {name}")


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if hint is Any:
        return True
    if origin is list:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)
