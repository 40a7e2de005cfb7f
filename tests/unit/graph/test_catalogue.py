"""Catalogue: plain data with a digest, shown with the files that are there."""

from __future__ import annotations

import json

from limner.graph.catalogue import Catalogue
from limner.graph.validate import validate
from tests.support import toys

CATALOGUE = toys.catalogue()


def test_it_survives_as_data_and_keeps_its_digest() -> None:
    back = Catalogue.from_json(json.loads(json.dumps(CATALOGUE.to_json())))
    assert back.nodes == CATALOGUE.nodes
    assert back.digest == CATALOGUE.digest


def test_the_digest_changes_with_nodes_and_with_model_files() -> None:
    fewer = Catalogue(nodes={"ApInt": CATALOGUE.nodes["ApInt"]}, models=CATALOGUE.models)
    more_models = Catalogue(nodes=CATALOGUE.nodes, models={"checkpoints": ("a", "b")})
    assert len({CATALOGUE.digest, fewer.digest, more_models.digest}) == 3


def test_object_info_offers_the_files_that_are_there() -> None:
    info = CATALOGUE.object_info(["a.png", "b.PNG", "clip.mp4", "notes.txt", "noext", "page.svg", "sub/c.png"])
    assert info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"] == [["anchor_sd15.safetensors"], {}]
    assert info["LoadImage"]["input"]["required"]["image"] == [["a.png", "b.PNG"], {"image_upload": True}]
    assert CATALOGUE.node_info("LoadImage")["input"]["required"]["image"][0] == []


def test_the_shipped_catalogue_checks_a_prompt() -> None:
    core = Catalogue.core()
    [checkpoint, *_] = core.models["checkpoints"]
    prompt = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "2": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "3": {"class_type": "VAEEncode", "inputs": {"pixels": ["2", 0], "vae": ["1", 2]}},
        "4": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["1", 2]}},
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}},
    }
    found = validate(prompt, core)
    assert (found.outputs, found.models) == (("5",), (checkpoint,))
