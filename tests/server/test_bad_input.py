"""Bad input of every kind gets a clear answer; the server and everybody else's jobs go on."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support.tree import Tree, eventually, trivial, txt2img


@pytest.fixture(autouse=True)
def bystander(server: Tree) -> Iterator[None]:
    """Whatever a test sends, a stranger's job sent before it and one sent after it both succeed."""
    before = server.post(trivial(1))
    yield
    after = server.post(trivial(2))
    for entry in server.wait_history([before, after]).values():
        assert entry["status"] is not None
    assert server.get(f"/history/{after}")[after]["status"]["status_str"] == "success"


def post(server: Tree, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.http.post("/prompt", content=content, headers={"Content-Type": "application/json"})


def failure(server: Tree, workflow: dict[str, Any]) -> dict[str, Any]:
    """Runs a workflow that must fail at run time; gives execution_error's data from history."""
    prompt_id = server.post(workflow)
    entry = server.wait_history([prompt_id])[prompt_id]
    assert entry["status"]["status_str"] == "error"
    data: dict[str, Any] = dict(entry["status"]["messages"])["execution_error"]
    return data


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{not json", "JSON"),
        (b"", "JSON"),
        (b"\xff\xfe\x00", "JSON"),
        (b"[1, 2]", "No prompt provided"),
        (b'"text"', "object"),
        (b"null", "object"),
        (b"{}", "No prompt provided"),
        (b'{"prompt": null}', "prompt"),
        (b'{"prompt": 5}', "prompt"),
        (b'{"prompt": {"1": 5}}', "1"),
        (b'{"prompt": {"1": {"class_type": "EmptyImage", "inputs": {"width": NaN}}}}', "NaN"),
        (b"[" * 100_000, "JSON"),
        (b'{"prompt":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, ""),
    ],
)
def test_a_body_that_is_no_prompt_is_refused_with_the_reason(server: Tree, body: bytes, words: str) -> None:
    answer = post(server, body)
    assert answer.status_code == 400, answer.text
    assert words in answer.text
    assert "Traceback" not in answer.text


def test_a_body_over_the_limit_is_413(server: Tree) -> None:
    limit = server.get("/features")["max_upload_size"]
    answer = server.http.post("/prompt", content=iter([b" " * 2**20] * (limit // 2**20 + 1)))
    assert answer.status_code == 413
    assert "Maximum request body size" in answer.text


def test_the_editors_save_format_is_refused_with_the_way_to_export(server: Tree) -> None:
    saved = {"last_node_id": 1, "nodes": [{"id": 1, "type": "KSampler"}], "links": [], "version": 0.4}
    answer = post(server, {"prompt": saved})
    assert answer.status_code == 400
    assert "Export (API)" in answer.text


def test_graph_faults_are_told_in_comfyuis_words(server: Tree) -> None:
    unknown = trivial(0) | {"7": {"class_type": "NoSuchNode", "inputs": {}}}
    assert "NoSuchNode" in post(server, {"prompt": unknown}).json()["error"]["message"]
    missing = trivial(0)
    del missing["2"]["inputs"]["images"]
    errors = post(server, {"prompt": missing}).json()["node_errors"]["2"]["errors"]
    assert [e["type"] for e in errors] == ["required_input_missing"]
    huge = trivial(0)
    huge["1"]["inputs"]["width"] = 10**400
    errors = post(server, {"prompt": huge}).json()["node_errors"]["1"]["errors"]
    assert [e["type"] for e in errors] == ["value_bigger_than_max"]
    for link in (["99", 0], ["1", 7], ["1"], [1, 0], ["1", -1], ["1", "0"], [[], {}]):
        wrong = trivial(0)
        wrong["2"]["inputs"]["images"] = link
        assert post(server, {"prompt": wrong}).status_code == 400, link
    cycle = {
        "1": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    assert post(server, {"prompt": cycle}).status_code == 400


def chain(length: int, first: int) -> dict[str, Any]:
    """`length` ImageInverts in a row between EmptyImage and PreviewImage."""
    graph = {"0": trivial(first)["1"]}
    for n in range(1, length + 1):
        graph[str(n)] = {"class_type": "ImageInvert", "inputs": {"image": [str(n - 1), 0]}}
    graph["end"] = {"class_type": "PreviewImage", "inputs": {"images": [str(length), 0]}}
    return graph


def test_a_thousand_levels_and_ten_thousand_nodes_run(server: Tree) -> None:
    wide = {k: v for n in range(5000) for k, v in ((f"{n}a", trivial(n)["1"]), (f"{n}b", chain(0, 0)["end"]))}
    for n in range(5000):
        wide[f"{n}b"] = {"class_type": "ImageInvert", "inputs": {"image": [f"{n}a", 0]}}
    wide["end"] = {"class_type": "PreviewImage", "inputs": {"images": ["4999b", 0]}}
    for graph in (chain(1000, 3), wide):
        prompt_id = server.post(graph)
        assert server.wait_history([prompt_id])[prompt_id]["status"]["status_str"] == "success"


def test_odd_members_are_taken_or_refused_but_never_stop_the_queue(server: Tree) -> None:
    for members in ({"extra_data": None}, {"client_id": None}, {"prompt_id": None}, {"number": "7"}):
        answer = post(server, {"prompt": trivial(5), **members})
        assert answer.status_code == 200, (members, answer.text)
    for members in ({"number": "x"}, {"number": None}, {"extra_data": 5}, {"number": [1]}):
        answer = post(server, {"prompt": trivial(5), **members})
        assert answer.status_code in {200, 400}, (members, answer.text)


@pytest.fixture(scope="session")
def bad_checkpoints(server: Tree) -> Path:
    folder = server.data_dir / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    (folder / "other.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    (folder / "truncated.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(3))
    (folder / "garbage.safetensors").write_bytes(b"\xff" * 100)
    (folder / "pickled.safetensors").write_bytes(pickle.dumps({"state_dict": {}}))
    (folder / "pickled.ckpt").write_bytes(pickle.dumps({"state_dict": {}}))
    (folder / "empty.safetensors").write_bytes(b"")
    return folder


NAMES = (
    "other.safetensors",
    "truncated.safetensors",
    "garbage.safetensors",
    "pickled.safetensors",
    "empty.safetensors",
    "pickled.ckpt",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_checkpoint_fails_its_job_and_says_why(server: Tree, bad_checkpoints: Path, name: str) -> None:
    graph = txt2img()
    graph["4"]["inputs"]["ckpt_name"] = name

    def offered() -> bool:
        info = server.get("/object_info/CheckpointLoaderSimple")["CheckpointLoaderSimple"]
        return name in info["input"]["required"]["ckpt_name"][0]

    eventually(offered, seconds=30, what="the new file is in the list")
    error = failure(server, graph)
    assert error["node_type"] == "CheckpointLoaderSimple"
    assert name in error["exception_message"]


def test_an_absent_checkpoint_is_refused_at_once(server: Tree) -> None:
    for name in ("nope.safetensors", "../../etc/passwd"):
        graph = txt2img()
        graph["4"]["inputs"]["ckpt_name"] = name
        answer = post(server, {"prompt": graph})
        assert answer.status_code == 400, name
        assert [e["type"] for e in answer.json()["node_errors"]["4"]["errors"]] == ["value_not_in_list"]


def upload(server: Tree, name: str, data: bytes, **fields: str) -> httpx.Response:
    return server.http.post("/upload/image", files={"image": (name, data, "image/png")}, data=fields)


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in a few bytes."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(bytes(1000))) + part(b"IEND", b"")


def test_a_corrupt_picture_or_a_bomb_fails_its_job_and_nothing_else(server: Tree) -> None:
    good = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(good, "PNG")
    half = good.getvalue()[: len(good.getvalue()) // 2]
    for name, data in (("half.png", half), ("noise.png", b"no picture at all"), ("bomb.png", bomb())):
        assert upload(server, name, data).status_code == 200
        graph = {
            "1": {"class_type": "LoadImage", "inputs": {"image": name}},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        }
        error = failure(server, graph)
        assert error["node_type"] == "LoadImage"
        assert name in error["exception_message"]
        shown = server.http.get("/view", params={"filename": name, "type": "input", "preview": "webp;80"})
        assert shown.status_code == 400, shown.text


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "a/../../x.png", "..", "", "a\x00b.png", "C:\\x.png"])
def test_no_name_leaves_its_place(server: Tree, name: str) -> None:
    assert server.http.get("/view", params={"filename": name, "type": "input"}).status_code in {400, 403, 404}
    assert server.http.get("/view", params={"filename": "x.png", "subfolder": "../" + name}).status_code in {
        400,
        403,
        404,
    }
    assert upload(server, "ok.png", b"x", subfolder="../" + name).status_code == 400
    load = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    assert post(server, {"prompt": load}).status_code == 400


@pytest.mark.parametrize("prefix", ["../x", "/tmp/x", "a/../../x", "..", "a\x00b"])
def test_no_filename_prefix_leaves_the_output_folder(server: Tree, prefix: str) -> None:
    error = failure(server, trivial(9, prefix=prefix))
    assert error["node_type"] == "SaveImage"
    assert not list(server.data_dir.parent.glob("x_*"))
