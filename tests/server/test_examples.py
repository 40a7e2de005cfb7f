"""examples/workflows: each runs on a real server, on small models with random weights, and gives what it promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny.folder import save_all
from tests.support.tree import Tree, serving

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
WORKFLOWS = sorted((EXAMPLES / "workflows").glob("*.json"))
SAVING = {"SaveImage", "SaveVideo", "SaveWEBM", "SaveAnimatedWEBP", "SaveAudio", "SaveAudioMP3"}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A server with the small models, the example node pack, and the example inputs uploaded."""
    folder = tmp_path_factory.mktemp("examples")
    save_all(folder / "models")
    pack = str(EXAMPLES / "custom_nodes")
    with serving(folder / "data", "--models", str(folder / "models"), "--custom-nodes", pack) as tree:
        for path in sorted((EXAMPLES / "input").iterdir()):
            answer = tree.http.post("/upload/image", files={"image": (path.name, path.read_bytes())})
            assert answer.status_code == 200, answer.text
        yield tree


def load(path: Path) -> dict[str, Any]:
    workflow: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return workflow


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_an_example_runs_and_gives_what_it_saves(studio: Tree, path: Path) -> None:
    workflow = load(path)
    answer = studio.http.post("/prompt", json={"prompt": workflow})
    assert answer.status_code == 200, answer.text
    assert answer.json()["node_errors"] == {}
    prompt_id = answer.json()["prompt_id"]
    entry = studio.wait_history([prompt_id])[prompt_id]
    assert entry["status"]["status_str"] == "success", _why(entry)
    saving = [node_id for node_id, node in workflow.items() if node["class_type"] in SAVING]
    assert saving
    for node_id in saving:
        files = [each for group in entry["outputs"][node_id].values() for each in group if isinstance(each, dict)]
        assert files, node_id
        for file in files:
            assert studio.http.get("/view", params=file).content


def _why(entry: dict[str, Any]) -> str:
    told = entry["status"]["messages"][-1][1]
    return f"{told.get('node_type')}: {told.get('exception_message')}"


def test_there_is_an_example_of_each_kind() -> None:
    assert len(WORKFLOWS) >= 20
    classes = {node["class_type"] for path in WORKFLOWS for node in load(path).values()}
    assert classes >= {
        "KSampler", "KSamplerAdvanced", "SamplerCustomAdvanced", "LoraLoader", "ControlNetApplyAdvanced", "VAEEncode",
        "VAEEncodeForInpaint", "InpaintModelConditioning", "ImageUpscaleWithModel", "LatentUpscale", "UNETLoader",
        "DualCLIPLoader", "VAELoader", "SaveVideo", "SaveAudio", "ImageCompositeMasked", "ComfySwitchNode",
        "CLIPTextEncodeSDXL", "ModelMergeBlocks", "unCLIPConditioning", "ExampleRepeatSteps",
    }  # fmt: skip
