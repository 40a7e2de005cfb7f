"""Files to and from a ComfyUI, streamed: neither direction holds a file in memory, and a cut is noticed."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

import httpx

from limner.errors import LimnerError, NotFound

TRIES = 3
PAUSE_SECONDS = 0.3


class CutShort(LimnerError):
    """Fewer bytes came, or more, than were announced."""


@dataclass(slots=True)
class _Part:
    """What of a file is here, and how the rest can be asked for."""

    got: int = 0
    version: str = ""  # Last-Modified: the rest must be of the same file


class Transfer:
    """Raises httpx's own faults, and CutShort; its caller words them."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def download(self, path: str, query: dict[str, str], target: Path) -> int:
        """Writes what a route answers to `target`. The number of bytes. Raises NotFound.

        Tried three times, going on where the last try was cut off if the other side can. Error answers other than
        404 and those from 500 on are final (httpx.HTTPStatusError).
        """
        part = _Part()
        for again in range(TRIES):
            if again:
                await asyncio.sleep(PAUSE_SECONDS * again)
            try:
                return await self._download(path, query, target, part)
            except (httpx.TransportError, httpx.StreamError, CutShort):
                if again == TRIES - 1:
                    raise
            except httpx.HTTPStatusError as error:
                if error.response.status_code < 500 or again == TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    async def _download(self, path: str, query: dict[str, str], target: Path, part: _Part) -> int:
        headers = {"Accept-Encoding": "identity"}
        if part.got and part.version:
            headers |= {"Range": f"bytes={part.got}-", "If-Range": part.version}
        async with self._http.stream("GET", path, params=query, headers=headers) as answer:
            if answer.status_code == 404:
                raise NotFound(f"{path} has no {query.get('filename')!r} of type {query.get('type')!r}")
            if answer.status_code == 416:
                part.got = 0
                raise CutShort("there is no rest of the file")
            if answer.status_code >= 300:
                await answer.aread()
                raise httpx.HTTPStatusError(
                    f"answered with {answer.status_code}", request=answer.request, response=answer
                )
            if answer.status_code == 206 and _starts_at(answer) != part.got:
                part.got = 0
                raise CutShort("another part came than was asked for")
            if answer.status_code != 206:
                part.got = 0
            part.version = answer.headers.get("last-modified", "")
            await self._write(answer, target, part)
        return part.got

    async def _write(self, answer: httpx.Response, target: Path, part: _Part) -> None:
        announced = _length(answer)
        whole = None if announced is None else part.got + announced
        with target.open("r+b" if part.got else "wb") as file:
            file.seek(part.got)
            async for chunk in answer.aiter_bytes():
                file.write(chunk)
                part.got += len(chunk)
            file.truncate()
        if whole is not None and part.got != whole:
            got, part.got = part.got, 0
            raise CutShort(f"{got} of {whole} bytes came")


def _length(answer: httpx.Response) -> int | None:
    """The announced length of this answer's body as we read it; None where it comes in pieces or packed."""
    text = answer.headers.get("content-length", "")
    packed = answer.headers.get("content-encoding", "identity") != "identity"
    return int(text) if text.isdecimal() and not packed else None


def _starts_at(answer: httpx.Response) -> int:
    found = re.match(r"bytes (\d+)-", answer.headers.get("content-range", ""))
    return int(found[1]) if found else -1
