"""Packs are found, loaded and left out as told; a bad one costs itself only."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.compat import packs as loading
from limner.compat.pack import Pack
from limner.graph.folders import Folders
from tests.unit.compat.conftest import Packs

BAD = Path(__file__).parents[2] / "data" / "bad_packs"


@pytest.fixture(scope="module")
def bad(loaded: Packs) -> dict[str, Pack]:
    found = loading.find([BAD])
    return {pack.name: pack for pack in loading.load(found, core=loaded.kinds.keys(), folders=Folders({}))}


def test_folders_and_files_are_packs_and_disabled_ones_are_not(bad: dict[str, Pack]) -> None:
    assert "single" in bad
    assert "retired.disabled" not in bad
    assert [name for name, pack in bad.items() if not pack.fault] == ["partly", "single"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("needs_more", "it needs the module comfy.of_tomorrow, which Limner does not offer"),
        ("needs_member", "it needs comfy.utils.something_of_tomorrow, which Limner does not offer"),
        ("needs_package", "the Python package 'a_package_that_nobody_has' is not installed"),
        ("broken_syntax", "SyntaxError: invalid syntax (__init__.py, line 1)"),
        ("ends_process", "it wanted to end the process (SystemExit: 7)"),
        ("no_nodes", "it gives no nodes: there is neither NODE_CLASS_MAPPINGS nor comfy_entrypoint"),
    ],
)
def test_a_pack_that_fails_says_what_is_missing(bad: dict[str, Pack], name: str, fault: str) -> None:
    assert bad[name].fault == fault
    assert bad[name].kinds == {}


def test_one_bad_class_costs_no_other(bad: dict[str, Pack]) -> None:
    assert list(bad["partly"].kinds) == ["PartlyGood"]
    assert bad["partly"].left_out == {"PartlyBad": "TypeError: FUNCTION names no method"}


def test_a_pack_that_is_imported_for_ever_is_given_up(
    tmp_path: Path, loaded: Packs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "IMPORT_SECONDS", 0.2)
    (tmp_path / "endless.py").write_text("while True:\n    try:\n        pass\n    except Exception:\n        pass\n")
    [pack] = loading.load(loading.find([tmp_path]), core=(), folders=Folders({}))
    assert pack.fault == "it was not imported after 0.2 s"


def test_limners_own_names_stay_its_own(loaded: Packs) -> None:
    [classic] = [pack for pack in loaded.custom.packs if pack.name == "classic-pack"]
    assert classic.left_out["EmptyImage"] == "Limner has a node of this name itself"
    assert loaded.kinds["EmptyImage"].spec.python_module == "nodes"


def test_a_class_whose_inputs_cannot_be_read_is_told(loaded: Packs) -> None:
    [classic] = [pack for pack in loaded.custom.packs if pack.name == "classic-pack"]
    assert classic.left_out["CpRaises"] == "FileNotFoundError: no such list"
    assert classic.fault == ""


def test_of_two_packs_with_one_name_the_last_wins(tmp_path: Path, loaded: Packs) -> None:
    text = (BAD / "single.py").read_text()
    for name, category in (("a", "first"), ("b", "second")):
        (tmp_path / f"{name}.py").write_text(text.replace("FUNCTION =", f"CATEGORY = {category!r}; FUNCTION ="))
    found = loading.load(loading.find([tmp_path]), core=(), folders=Folders({}))
    kinds = {name: kind for pack in found for name, kind in pack.kinds.items()}
    assert kinds["SingleFile"].spec.category == "second"


def test_files_for_the_browser_are_found_by_either_way_of_telling_them(loaded: Packs) -> None:
    assert sorted(loaded.custom.web) == [
        "anchor_pack/anchor.js",
        "classic-tools/tools.css",
        "classic-tools/tools.js",
    ]


def test_a_route_declared_at_import_is_kept(loaded: Packs) -> None:
    import server

    routes = [(route.method, route.path) for route in server.PromptServer.instance.routes]
    assert ("GET", "/classic/hello") in routes


def test_a_pack_s_folder_of_models_is_one_from_its_prestart_on(loaded: Packs) -> None:
    assert loaded.custom.place.models.lists()["classic_things"] == ["one.safetensors"]
