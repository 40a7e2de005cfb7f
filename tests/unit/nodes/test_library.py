import json
from pathlib import Path
from typing import Any

import pytest

from limner.graph.catalogue import Catalogue
from limner.models.files import ModelFolders
from limner.nodes import library

RECORDED = json.loads((Path(__file__).parents[2] / "data/fixtures/object_info.json").read_text())
CHOSEN_FROM_FEWER = ("sampler_name", "scheduler")


def fields(name: str, info: dict[str, Any]) -> dict[str, Any]:
    """What must be equal: all but the description, the model files, and the choices that grow with time."""
    inputs = {kind: dict(section) for kind, section in info["input"].items()}
    if name == "CheckpointLoaderSimple":
        inputs["required"]["ckpt_name"] = [[], *info["input"]["required"]["ckpt_name"][1:]]
    for each in CHOSEN_FROM_FEWER:
        if each in inputs["required"]:
            inputs["required"][each] = [[], *info["input"]["required"][each][1:]]
    return {key: value for key, value in info.items() if key != "description"} | {"input": inputs}


@pytest.mark.parametrize("name", RECORDED)
def test_a_node_shows_what_the_recorded_one_shows(name: str) -> None:
    """As text, so that the order of inputs, options and sections counts too."""
    ours, theirs = library.load()[name].spec.object_info(), RECORDED[name]
    ours_in_their_order = {key: ours[key] for key in theirs}
    assert json.dumps(fields(name, ours_in_their_order)) == json.dumps(fields(name, theirs))
    assert set(ours) - set(theirs) == {"description"}


@pytest.mark.parametrize("name", CHOSEN_FROM_FEWER)
def test_what_is_offered_stands_in_the_recorded_order(name: str) -> None:
    ours = library.load()["KSampler"].spec.input[name].choices
    theirs = RECORDED["KSampler"]["input"]["required"][name][0]
    assert ours
    assert list(ours) == [each for each in theirs if each in ours]


def test_every_recorded_node_is_there_and_no_other() -> None:
    assert sorted(library.load()) == sorted(RECORDED)


def test_every_node_says_what_it_does() -> None:
    assert all(kind.spec.description for kind in library.load().values())


def test_the_shipped_catalogue_is_up_to_date() -> None:
    """If this fails: python -m limner.nodes.library --write."""
    assert library.SHIPPED.read_text(encoding="utf-8") == library.core_catalogue()


def test_the_shipped_catalogue_offers_the_built_in_model() -> None:
    assert "limner-demo.safetensors" in Catalogue.core().models["checkpoints"]


def test_a_users_models_stand_in_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/mine.safetensors").touch()
    known = library.catalogue(library.load(), ModelFolders([tmp_path]))
    shown = known.object_info()["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0]
    assert shown == ["limner-demo.safetensors", "mine.safetensors"]
