"""The command `limner`, as a user meets it: one clear line per error, and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from limner import __version__

EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 255}}


def limner(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "limner.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **env},
    )


def workflow(path: Path, **nodes: object) -> str:
    graph = {"1": EMPTY, "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}}
    path.write_text(json.dumps(graph | nodes))
    return str(path)


def test_the_version_is_told() -> None:
    assert limner("--version").stdout == f"limner {__version__}\n"


def test_help_loads_no_library_that_a_command_needs() -> None:
    code = "import sys, limner.cli.main\nprint([m for m in ('torch', 'fastapi', 'structlog') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["serve", "run", "convert", "gateway", "worker", "doctor"])
def test_every_command_has_help(command: str) -> None:
    said = limner(command, "--help")
    assert said.returncode == 0
    assert command in said.stdout


@pytest.mark.parametrize("command", [("serve",), ("worker",), ("run", "w.json")])
def test_results_are_kept_in_one_way_only(command: tuple[str, ...], tmp_path: Path) -> None:
    workflow(tmp_path / "w.json")
    said = limner(*command, "--cache-lru", "5", "--cache-none", cwd=tmp_path)
    assert (said.returncode, said.stdout) == (2, "")
    assert "--cache-lru and --cache-none exclude each other" in said.stderr


def test_a_run_makes_a_file_and_prints_its_path(tmp_path: Path) -> None:
    said = limner("run", workflow(tmp_path / "w.json"), "--out", str(tmp_path / "out"), "--set", "1.color=16711680")
    assert said.returncode == 0, said.stderr
    [path] = said.stdout.split()
    assert Path(path) == tmp_path / "out" / "x_00001_.png"
    assert Path(path).read_bytes().startswith(b"\x89PNG")
    assert "node 2: SaveImage" in said.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot read the workflow"),
        ("{", "is not JSON"),
        ("[]", "holds no workflow"),
        (
            json.dumps({"nodes": [{"id": 1, "type": "Nope"}], "links": []}),
            "node 1 (Nope): this class is not in the cat",
        ),
        (json.dumps({"1": {"class_type": "NoSuchNode", "inputs": {}}}), "NoSuchNode"),
        (json.dumps({"1": EMPTY}), "no outputs"),
    ],
)
def test_a_bad_workflow_is_one_line_and_exit_code_2(tmp_path: Path, content: str | None, told: str) -> None:
    if content is not None:
        (tmp_path / "w.json").write_text(content)
    said = limner("run", str(tmp_path / "w.json"))
    assert said.returncode == 2
    assert told in said.stderr
    assert said.stderr.startswith("limner: ")
    assert "Traceback" not in said.stderr


def test_each_fault_of_a_workflow_is_told_with_its_node(tmp_path: Path) -> None:
    bad = {"class_type": "EmptyImage", "inputs": {"width": "wide", "height": -5, "batch_size": 1, "color": 0}}
    said = limner("run", workflow(tmp_path / "w.json", **{"1": bad}))
    assert said.returncode == 2
    assert said.stderr.count("node 1 (EmptyImage)") == 2


def test_a_node_that_fails_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    load = {"class_type": "LoadImage", "inputs": {"image": "broken.png"}}
    said = limner("run", workflow(tmp_path / "w.json", **{"1": load}), "--out", str(tmp_path / "out"))
    assert said.returncode == 1
    assert "limner: node 1 (LoadImage) failed: " in said.stderr
    assert "Traceback" not in said.stderr


def test_inputs_are_found_beside_the_workflow(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), "red").save(tmp_path / "in.png")
    load = {"class_type": "LoadImage", "inputs": {"image": "in.png"}}
    said = limner("run", workflow(tmp_path / "w.json", **{"1": load}), "--out", str(tmp_path / "out"))
    assert said.returncode == 0, said.stderr
    with Image.open(said.stdout.strip()) as made:
        assert made.getpixel((0, 0)) == (255, 0, 0)


def test_an_input_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.png").touch()
    (tmp_path / "in").mkdir()
    load = {"class_type": "LoadImage", "inputs": {"image": "../secret.png"}}
    said = limner("run", workflow(tmp_path / "w.json", **{"1": load}), "--input", str(tmp_path / "in"))
    assert said.returncode == 2
    assert "Invalid image file" in said.stderr


def test_debug_shows_a_traceback(tmp_path: Path) -> None:
    for arguments in (["--debug", "run"], ["run", "--debug"]):
        said = limner(*arguments, str(tmp_path / "absent.json"))
        assert said.returncode != 0
        assert "Traceback" in said.stderr


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    said = limner("run", workflow(tmp_path / "w.json"), "--server", "http://127.0.0.1:9")
    assert said.returncode == 1
    assert "no server answers on http://127.0.0.1:9" in said.stderr


class Stranger(BaseHTTPRequestHandler):
    """A web server that is no ComfyUI."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()
        self.wfile.write(b"<html>nothing here</html>")

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.mark.parametrize("more", [[], ["--set", "1.color=7"]])
def test_a_server_that_is_no_comfyui_is_told_in_one_line(tmp_path: Path, more: list[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        said = limner("run", workflow(tmp_path / "w.json"), "--server", url, *more)
        server.shutdown()
    assert said.returncode == 1
    assert url in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_a_url_that_is_none_is_told(tmp_path: Path) -> None:
    said = limner("run", workflow(tmp_path / "w.json"), "--server", "http://[::1")
    assert (said.returncode, len(said.stderr.splitlines())) == (2, 1)


def test_inputs_that_are_no_object_are_told(tmp_path: Path) -> None:
    path = workflow(tmp_path / "w.json", **{"1": {"class_type": "EmptyImage", "inputs": []}})
    said = limner("run", path, "--set", "1.color=2")
    assert (said.returncode, len(said.stderr.splitlines())) == (2, 1)


def test_an_open_address_is_refused(tmp_path: Path) -> None:
    said = limner("serve", "--host", "0.0.0.0", "--data-dir", str(tmp_path))
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
    assert "no API keys" in said.stderr


def test_a_bad_port_is_told() -> None:
    assert limner("serve", LIMNER_PORT="http").returncode == 2


def test_a_worker_alone_needs_a_nats(tmp_path: Path) -> None:
    said = limner("worker", "--data-dir", str(tmp_path), LIMNER_NATS_URL="")
    assert said.returncode == 2
    assert "LIMNER_NATS_URL" in said.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "--engine", "comfy"], "--engine comfy is no engine"),
        (["serve", "--engine", "comfyui=http://127.0.0.1:8188"], "use another --port for Limner"),
        (["serve", "--engine", "own", "--workers", "2"], "--workers 2 does not go with --engine"),
        (["serve", "--start", "python main.py"], "--start starts a ComfyUI, but there is no --engine"),
        (["serve", "--comfyui-hang", "0"], "--comfyui-hang=0.0 is not a number of seconds above 0"),
        (["worker", "--engine", "comfyui=8188"], "--engine comfyui=URL: '8188' is no address"),
        (["worker", "--comfyui-free", "-1"], "--comfyui-free=-1.0 is not a number of seconds, 0 for never"),
        (["doctor", "--engine", "comfyui="], "is no address of a ComfyUI"),
    ],
)
def test_a_wrong_engine_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], told: str) -> None:
    said = limner(*arguments, "--data-dir", str(tmp_path), LIMNER_NATS_URL="nats://127.0.0.1:9")
    assert (said.returncode, said.stderr.count("\n")) == (2, 1), said.stderr
    assert told in said.stderr


@pytest.mark.slow
def test_the_doctor_tries_each_part(tmp_path: Path) -> None:
    said = limner("doctor", "--data-dir", str(tmp_path))
    assert said.returncode == 0, said.stdout
    for part in ("nats-server", "devices", "model folders", "publish, pull", "commit", "put and get", "tiny workflow"):
        assert part in said.stdout


def saved_by_the_editor(folder: Path) -> Path:
    boxes = [
        {"id": 1, "type": "EmptyImage", "inputs": [], "outputs": [{"type": "IMAGE"}], "widgets_values": [8, 8, 1, 255]},
        {
            "id": 2,
            "type": "SaveImage",
            "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
            "widgets_values": ["x"],
        },
    ]
    save = folder / "saved.json"
    save.write_text(json.dumps({"nodes": boxes, "links": [[1, 1, 0, 2, 0, "IMAGE"]], "version": 0.4}))
    return save


def test_what_the_editor_saved_is_converted(tmp_path: Path) -> None:
    said = limner("convert", str(saved_by_the_editor(tmp_path)))
    assert {node_id: node["class_type"] for node_id, node in json.loads(said.stdout).items()} == {
        "1": "EmptyImage",
        "2": "SaveImage",
    }
    told = limner("convert", str(saved_by_the_editor(tmp_path)), "--out", str(tmp_path / "api.json"))
    assert told.stdout == f"{tmp_path / 'api.json'}\n"
    assert json.loads((tmp_path / "api.json").read_text()) == json.loads(said.stdout)


def test_what_the_editor_saved_runs_as_it_is(tmp_path: Path) -> None:
    said = limner("run", str(saved_by_the_editor(tmp_path)), "--out", str(tmp_path / "out"), "--set", "1.width=24")
    assert said.returncode == 0, said.stderr
    with Image.open(tmp_path / "out/x_00001_.png") as picture:
        assert picture.size == (24, 8)
