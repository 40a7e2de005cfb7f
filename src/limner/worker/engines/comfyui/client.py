"""A ComfyUI's HTTP routes, one call each. Plain data in and out; no call leaves a fault of the transport uncaught."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from limner import logs
from limner.errors import LimnerError
from limner.worker.engines.comfyui.address import Address
from limner.worker.engines.comfyui.queue import Queue
from limner.worker.engines.comfyui.transfer import CutShort, Transfer

log = logs.get("comfyui")

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0  # a ComfyUI that loads a model may be silent for so long
CATALOGUE_SECONDS = 180.0  # /object_info of hundreds of packs
LOOK_SECONDS = 10.0  # what is asked again soon need not be waited for long
KEEP_SECONDS = 30.0  # below the 75 s after which the other side closes a connection
NOBODY_BEHIND = frozenset({502, 503, 504})
"""What a proxy answers for a ComfyUI that does not run."""
HINTS = {
    401: " (it wants a user and a password, http://user:password@host, or others than it was given)",
    403: " (it lets only some clients in)",
    413: " (it takes no bodies that large: see its --max-upload-size)",
}
TRIES = 3
PAUSE_SECONDS = 0.3
SHOWN_LETTERS = 300


class Unreachable(LimnerError):
    """A ComfyUI did not answer, or with nonsense.

    `refused`: nobody listens there. `slow`: it took the request, and did not answer in time.
    """

    code = "worker_lost"
    retryable = True

    def __init__(self, message: str, *, refused: bool = False, slow: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        self.slow = slow


class Refused(LimnerError):
    """A ComfyUI answered with an error, `answered` (400 and up). `body`: what came with it: JSON, or else a text."""

    code = "worker_lost"
    retryable = True

    def __init__(self, answered: int, body: Any, what: str = "a request") -> None:
        said = _short(body)
        super().__init__(f"{what} was answered with {answered}{HINTS.get(answered, '')}{': ' if said else ''}{said}")
        self.answered = answered
        self.body = body


class ComfyClient:
    """Keeps its connection. Calls raise Unreachable and Refused, and nothing else but what they say."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._http = httpx.AsyncClient(
            base_url=address.base,
            auth=address.auth,
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=4, keepalive_expiry=KEEP_SECONDS),
            verify=ssl.create_default_context() if address.secure else False,
            trust_env=False,  # an instance is reached directly, whatever proxy this machine uses for the web
        )
        self._transfer = Transfer(self._http)

    async def object_info(self) -> dict[str, Any]:
        """Every node class, as the instance describes it."""
        return _object(await self._get("/object_info", CATALOGUE_SECONDS), "/object_info")

    async def models(self) -> dict[str, list[str]]:
        """Model files by kind. Kinds that it lists and then does not know are left out."""
        try:
            kinds = await self._get("/models", LOOK_SECONDS)
        except Refused as error:
            if error.answered == 404:  # a server without model lists: the choices in /object_info have to do
                return {}
            raise
        found: dict[str, list[str]] = {}
        for kind in (kind for kind in _list(kinds) if isinstance(kind, str)):
            try:
                names = await self._get(f"/models/{quote(kind, safe='')}", CATALOGUE_SECONDS)
            except Refused as error:
                log.warning("a list of models is missing", kind=kind, error=error.message)
            else:
                found[kind] = [name for name in _list(names) if isinstance(name, str)]
        return found

    async def system_stats(self) -> dict[str, Any]:
        return _object(await self._get("/system_stats", LOOK_SECONDS), "/system_stats")

    async def submit(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to POST /prompt. But for a Refused below 500, the prompt may have been taken where this raises."""
        return _object(await self._post("/prompt", body), "/prompt")

    async def queue(self) -> Queue:
        """What runs and what waits, other users' prompts included."""
        return Queue.read(await self._get("/queue", LOOK_SECONDS))

    async def history(self, prompt_id: str) -> dict[str, Any] | None:
        """A prompt's entry; None where it is unknown or has not ended."""
        found = await self._get(f"/history/{quote(prompt_id, safe='')}", ANSWER_SECONDS)
        entry = found.get(prompt_id) if isinstance(found, dict) else None
        return entry if isinstance(entry, dict) else None

    async def recent(self, most: int) -> dict[str, dict[str, Any]]:
        """The entries of the prompts that ended last, by their ids."""
        found = await self._get(f"/history?max_items={most}", ANSWER_SECONDS)
        return {key: entry for key, entry in _object(found, "/history").items() if isinstance(entry, dict)}

    async def forget(self, prompt_id: str) -> None:
        """Takes a prompt out of the history."""
        await self._post("/history", {"delete": [prompt_id]})

    async def dequeue(self, prompt_id: str) -> None:
        """Takes a waiting prompt out of the queue; one that runs is left alone."""
        await self._post("/queue", {"delete": [prompt_id]})

    async def interrupt(self, prompt_id: str) -> None:
        """Stops this prompt if it runs now. Old versions stop whatever runs: look at the queue first."""
        await self._post("/interrupt", {"prompt_id": prompt_id})

    async def free(self, *, unload_models: bool, free_memory: bool) -> None:
        await self._post("/free", {"unload_models": unload_models, "free_memory": free_memory})

    async def upload(
        self, path: Path, *, name: str, subfolder: str, type: str = "input", overwrite: bool = True
    ) -> dict[str, str]:
        """Streams a file up. Where it lies then: `name`, `subfolder`, `type`. Also repeats what was cut off."""
        form = {"type": type, "subfolder": subfolder, "overwrite": "true" if overwrite else "false"}
        for again in range(TRIES):
            try:
                with path.open("rb") as file:
                    answer = await self._ask("POST", "/upload/image", data=form, files={"image": (name, file)})
            except Unreachable as error:
                if error.refused or again == TRIES - 1:
                    raise
                await asyncio.sleep(PAUSE_SECONDS * (again + 1))
            else:
                told = _object(answer, "/upload/image")
                return {"name": str(told.get("name", name)), "subfolder": str(told.get("subfolder", subfolder))} | {
                    "type": str(told.get("type", type))
                }
        raise AssertionError("unreachable")

    async def download(self, filename: str, subfolder: str, type: str, target: Path) -> int:
        """Streams a file down to `target`, and makes sure that it is all there. Its size in bytes. Raises NotFound."""
        query = {"filename": filename, "subfolder": subfolder, "type": type}
        try:
            return await self._transfer.download("/view", query, target)
        except (httpx.HTTPError, httpx.StreamError, RuntimeError, CutShort) as error:
            raise self._worded(error, "GET", "/view") from error

    async def close(self) -> None:
        await self._http.aclose()

    async def _get(self, path: str, seconds: float) -> Any:
        return await self._ask("GET", path, timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS))

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return await self._ask("POST", path, json=body)

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        """What was answered: parsed JSON, or None for an empty answer."""
        try:
            answer = await self._http.request(method, path, **options)
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, RuntimeError) as error:
            raise self._worded(error, method, path) from error  # RuntimeError: the client was closed meanwhile
        if answer.status_code >= 300:
            raise self._refusal(answer, method, path)
        if not answer.content:
            return None
        try:
            return answer.json()
        except (ValueError, RecursionError) as error:
            raise Unreachable(
                f"{method} {self.address.shown}{path} was answered with what is no JSON: is that a ComfyUI?"
            ) from error

    def _worded(self, error: Exception, method: str, path: str) -> LimnerError:
        what = f"{method} {self.address.shown}{path}"
        if isinstance(error, httpx.HTTPStatusError):
            return self._refusal(error.response, method, path)
        if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout | httpx.PoolTimeout):
            return Unreachable(f"{what} was not answered in time", slow=True)
        if isinstance(error, httpx.ConnectError) and _is_refusal(error):
            return Unreachable(f"{what} failed: nobody listens there", refused=True)
        return Unreachable(f"{what} failed: {str(error) or type(error).__name__}")

    def _refusal(self, answer: httpx.Response, method: str, path: str) -> LimnerError:
        what = f"{method} {self.address.shown}{path}"
        if answer.status_code in NOBODY_BEHIND:
            return Unreachable(f"{what} was answered with {answer.status_code} by a proxy")
        try:
            body = answer.json()
        except (ValueError, RecursionError):
            body = answer.text
        return Refused(answer.status_code, body, what)


def _is_refusal(error: BaseException | None) -> bool:
    """Whether nobody listens there, told by what the connection failed of; a name may stand for several addresses."""
    if error is None or isinstance(error, ConnectionRefusedError):
        return error is not None
    if isinstance(error, BaseExceptionGroup):
        return all(_is_refusal(each) for each in error.exceptions)
    return _is_refusal(error.__cause__ or error.__context__)


def _object(answer: Any, path: str) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise Unreachable(f"{path} was answered with no JSON object: is that a ComfyUI?")
    return answer


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _short(body: Any) -> str:
    """The beginning of an answer. A page for people is not shown: it is long and says little."""
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    if text.lstrip().lower().startswith(("<!doctype", "<html")):
        return "a web page; is that a ComfyUI?"
    words = " ".join(text.split())
    return words[:SHOWN_LETTERS] + ("..." if len(words) > SHOWN_LETTERS else "")
