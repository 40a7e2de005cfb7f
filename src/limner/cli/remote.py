"""`limner run --server`: what any ComfyUI client does. POST /prompt, listen on /ws, GET /history, GET /view."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from limner.cli.display import Display
from limner.errors import Invalid, LimnerError, Unavailable, WorkflowInvalid

POLL_SECONDS = 2.0
ANSWER_SECONDS = 30.0


class RunFailed(LimnerError):
    """The server ran the workflow, and it did not succeed."""


class Server:
    """A ComfyUI-compatible server at a URL. Raises Unavailable where none answers."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") if "://" in url else f"http://{url.rstrip('/')}"
        try:
            self._http = httpx.Client(base_url=self._url, timeout=ANSWER_SECONDS)
        except httpx.InvalidURL as error:
            raise Invalid(f"--server {url}: this is no URL ({error})") from error

    def info_of(self, class_type: str) -> dict[str, Any] | None:
        """A class's entry of /object_info."""
        answer: dict[str, Any] = self._json(self._ask("GET", f"/object_info/{class_type}"))
        return answer.get(class_type)

    def run(self, workflow: dict[str, Any], display: Display, out: Path) -> list[Path]:
        """Runs a workflow and downloads what it made. Raises WorkflowInvalid, RunFailed."""
        client_id = uuid.uuid4().hex
        with self._listen(client_id) as socket:
            prompt_id = self._submit(workflow, client_id)
            entry = self._follow(socket, prompt_id, display)
        status = entry["status"]
        if status["status_str"] != "success":
            raise RunFailed(_why(status["messages"]))
        return [self._download(file, out) for file in _files(entry["outputs"])]

    def _listen(self, client_id: str) -> ClientConnection:
        try:
            return connect(f"{self._url.replace('http', 'ws', 1)}/ws?clientId={client_id}", max_size=None)
        except (OSError, WebSocketException) as error:
            raise Unavailable(f"no server answers on {self._url}: {error}") from error

    def _submit(self, workflow: dict[str, Any], client_id: str) -> str:
        answer = self._ask("POST", "/prompt", json={"prompt": workflow, "client_id": client_id})
        if answer.status_code == 413:
            raise Invalid(f"the workflow is too large for {self._url}: {answer.text.strip()}")
        told = self._json(answer)
        error = told.get("error")
        if isinstance(error, dict):
            what = error.get("type", ""), error.get("message", ""), error.get("details", "")
            raise WorkflowInvalid(*what, told.get("node_errors") or {})
        if "prompt_id" not in told:
            raise self._stranger(answer)
        return str(told["prompt_id"])

    def _follow(self, socket: ClientConnection, prompt_id: str, display: Display) -> dict[str, Any]:
        """Shows the run's events until its history entry is there. A lost socket only costs the show."""
        listening = True
        while True:
            if listening:
                try:
                    over = _show(socket.recv(timeout=POLL_SECONDS), prompt_id, display)
                except TimeoutError:
                    over = True
                except ConnectionClosed:
                    over, listening = True, False
                if not over:
                    continue
            else:
                time.sleep(POLL_SECONDS)
            history: dict[str, Any] = self._json(self._ask("GET", f"/history/{prompt_id}"))
            if prompt_id in history:
                entry: dict[str, Any] = history[prompt_id]
                return entry

    def _download(self, file: dict[str, str], out: Path) -> Path:
        """Keeps the name where it is free, and never overwrites."""
        answer = self._ask("GET", "/view", params=file)
        if answer.status_code != 200:
            raise Unavailable(f"{self._url} did not hand out {file['filename']}: status {answer.status_code}")
        name = Path(file["filename"]).name
        out.mkdir(parents=True, exist_ok=True)
        path, number = out / name, 0
        while True:
            try:
                with path.open("xb") as sink:
                    sink.write(answer.content)
                return path
            except FileExistsError:
                number += 1
                path = out / f"{Path(name).stem} ({number}){Path(name).suffix}"

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **more)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"no server answers on {self._url}: {error}") from error

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            told = answer.json()
        except ValueError:
            raise self._stranger(answer) from None
        if not isinstance(told, dict):
            raise self._stranger(answer)
        return told

    def _stranger(self, answer: httpx.Response) -> Unavailable:
        what = f"{answer.request.method} {answer.request.url.path} with status {answer.status_code}"
        return Unavailable(f"{self._url} answers {what}, which is not what a ComfyUI server says")


def _show(frame: str | bytes, prompt_id: str, display: Display) -> bool:
    """Shows one frame. True: it says that the prompt is over."""
    if isinstance(frame, bytes):
        return False
    message = json.loads(frame)
    data = message["data"]
    if data.get("prompt_id") != prompt_id:
        return False
    match message["type"]:
        case "executing" if data["node"] is None:
            return True
        case "executing":
            display.node(data["display_node"])
        case "progress":
            display.step(data["value"], data["max"])
    return False


def _why(messages: list[list[Any]]) -> str:
    for name, data in messages:
        if name == "execution_error":
            what = f"{data['exception_type']}: {data['exception_message'].strip()}"
            return f"node {data['node_id']} ({data['node_type']}) failed: {what}"
    return "the run was interrupted"


def _files(outputs: dict[str, Any]) -> list[dict[str, str]]:
    """Every file that an output names, whatever its kind (images, video, audio)."""
    names = ("filename", "subfolder", "type")
    return [
        {name: str(item[name]) for name in names}
        for shown in outputs.values()
        for items in shown.values()
        for item in (items if isinstance(items, list) else [])
        if isinstance(item, dict) and all(name in item for name in names)
    ]
