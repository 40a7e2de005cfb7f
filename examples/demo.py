"""The main job, start to end: starts `limner serve`, sends it a ComfyUI workflow over HTTP, and saves the picture.

Everything here is what any ComfyUI client does: POST /prompt, listen on /ws, GET /history, GET /view.
`python examples/demo.py [PROMPT]` paints another thing; docs/demo_model.md lists what the built-in model knows.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import websockets

WORKFLOW = Path(__file__).with_name("txt2img.json")
OUT = Path("demo-out")
BEGIN = time.monotonic()


def stage(text: str) -> None:
    print(f"[{time.monotonic() - BEGIN:5.1f} s] {text}", flush=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def ready(base: str, server: subprocess.Popen[bytes], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    async with httpx.AsyncClient() as http:
        while time.monotonic() < deadline:
            if server.poll() is not None:
                raise SystemExit(f"limner serve ended early, with exit code {server.returncode}")
            try:
                if (await http.get(f"{base}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
    raise SystemExit(f"no server on {base} after {seconds:.0f} s")


async def paint(base: str, prompt: str) -> Path:
    workflow = json.loads(WORKFLOW.read_text())
    workflow["6"]["inputs"]["text"] = prompt
    async with (
        httpx.AsyncClient(base_url=base, timeout=30) as http,
        websockets.connect(f"{base.replace('http', 'ws', 1)}/ws?clientId=demo", max_size=None) as events,
    ):
        answer = await http.post("/prompt", json={"prompt": workflow, "client_id": "demo"})
        if answer.status_code != 200:
            raise SystemExit(f"POST /prompt was refused: {answer.text}")
        prompt_id = answer.json()["prompt_id"]
        stage(f'POST /prompt: "{prompt}" is recorded in SQL as {prompt_id}')
        async for frame in events:
            if isinstance(frame, bytes):
                continue
            message = json.loads(frame)
            kind, data = message["type"], message["data"]
            if kind == "execution_start":
                stage("a worker claimed the job and runs it")
            elif kind == "executing" and data["node"] is not None:
                node = workflow[data["node"]]
                stage(f"  node {data['node']}: {node['class_type']}")
            elif kind == "progress":
                end = "\n" if data["value"] == data["max"] else "\r"
                print(f"            step {data['value']} of {data['max']}", end=end, flush=True)
            elif kind == "execution_error":
                raise SystemExit(f"node {data['node_id']} failed: {data['exception_message']}")
            elif kind == "execution_success":
                stage("done: result and history are committed")
            elif kind == "executing":
                break
        entry = (await http.get(f"/history/{prompt_id}")).json()[prompt_id]
        [image] = entry["outputs"]["9"]["images"]
        picture = await http.get("/view", params=image)
        picture.raise_for_status()
        stage(f"GET /view: {image['filename']}, {len(picture.content)} bytes")
        OUT.mkdir(exist_ok=True)
        path = OUT / f"{'_'.join(prompt.split())[:60] or 'empty'}.png"
        path.write_bytes(picture.content)
        return path


def main() -> None:
    prompt = " ".join(sys.argv[1:]) or "a red apple"
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="limner-demo-") as data:
        stage("starting `limner serve`: nats-server, gateway, worker, engine")
        log = Path(data) / "serve.log"
        with log.open("wb") as sink:
            server = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "limner.cli.main",
                    "serve",
                    "--port",
                    str(port),
                    "--data-dir",
                    str(Path(data) / "limner"),
                ],
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=os.environ | {"LIMNER_LOG_FORMAT": "json"},
            )
        try:
            base = f"http://127.0.0.1:{port}"
            asyncio.run(ready(base, server))
            stage(f"gateway is ready on {base}")
            path = asyncio.run(paint(base, prompt))
        except BaseException:
            print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
            raise
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
        stage("server drained and stopped")
    print(path)


if __name__ == "__main__":
    main()
