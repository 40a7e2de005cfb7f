import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from limner.graph.catalogue import Catalogue
from limner.graph.spec import NodeSpec
from limner.models.files import ModelFolders
from limner.nodes import library

RECORDED = json.loads(gzip.decompress((Path(__file__).parents[2] / "data/comfyui_object_info.json.gz").read_bytes()))
LIBRARY = library.load()
NEVER_RECORDED = ("description", "output_tooltips")
"""Prose, which the recording leaves out."""


MODULES = {
    "nodes", "custom_sampler", "mask", "images", "latent", "string", "model_merging", "model_advanced", "compositing",
    "post_processing", "morphology", "video", "audio", "primitive", "flux", "sd3", "upscale_model", "controlnet",
    "clip_sdxl", "freelunch", "rebatch", "cond",
}  # fmt: skip
"""Every class of these recorded modules is here; the others are listed in docs/compatibility.md."""


def shown(info: dict[str, Any]) -> dict[str, Any]:
    """What must be equal: all but prose. Of sections and inputs the order counts, of an input's options it does not."""
    inputs = {
        kind: [(name, spec if isinstance(spec, str) else list(spec)) for name, spec in section.items()]
        for kind, section in info["input"].items()
    }
    for section in inputs.values():
        for _, spec in section:
            if isinstance(spec, list) and len(spec) > 1:
                spec[1] = {key: value for key, value in spec[1].items() if key != "tooltip"}
    return {key: value for key, value in info.items() if key not in NEVER_RECORDED} | {"input": inputs}


@pytest.mark.parametrize("name", sorted(LIBRARY.keys() & RECORDED.keys()))
def test_a_node_shows_what_the_recorded_one_shows(name: str) -> None:
    ours = NodeSpec.from_json(json.loads(json.dumps(LIBRARY[name].spec.to_json()))).object_info()
    assert shown(ours) == shown(RECORDED[name])


def test_every_class_of_the_chosen_modules_is_there() -> None:
    wanted = {
        name for name, info in RECORDED.items() if info["python_module"].removeprefix("comfy_extras.nodes_") in MODULES
    }
    assert len(wanted) == 225
    assert wanted - LIBRARY.keys() == set()


def test_every_node_says_what_it_does() -> None:
    assert all(kind.spec.description for kind in LIBRARY.values())


def test_the_shipped_catalogue_is_up_to_date() -> None:
    """If this fails: python -m limner.nodes.library --write."""
    assert library.SHIPPED.read_text(encoding="utf-8") == library.core_catalogue()


def test_the_shipped_catalogue_offers_the_built_in_model() -> None:
    assert "limner-demo.safetensors" in Catalogue.core().models["checkpoints"]


def test_a_users_models_stand_in_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/mine.safetensors").touch()
    known = library.catalogue(library.load(), ModelFolders([tmp_path]))
    names = known.object_info()["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0]
    assert names == ["limner-demo.safetensors", "mine.safetensors"]
