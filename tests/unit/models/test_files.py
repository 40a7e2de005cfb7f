"""Model folders: ComfyUI's kinds, and extra_model_paths.yaml as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.comfy.dialect.info import FOLDERS as SHOWN
from limner.errors import Misconfigured, ModelFileError
from limner.models.files import FOLDERS, ModelFolders


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_kinds_are_those_that_comfyui_shows() -> None:
    assert [kind for kind in SHOWN if kind != "custom_nodes"] == list(FOLDERS)


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("text_encoders", "text_encoders/a.safetensors"),
        ("text_encoders", "clip/a.safetensors"),
        ("clip", "text_encoders/a.safetensors"),
        ("diffusion_models", "unet/a.safetensors"),
        ("diffusion_models", "diffusion_models/sub/a.safetensors"),
        ("unet", "diffusion_models/a.safetensors"),
        ("controlnet", "t2i_adapter/a.pth"),
        ("configs", "configs/v1-inference.yaml"),
        ("upscale_models", "upscale_models/a.pth"),
        ("audio_encoders", "audio_encoders/a.safetensors"),
    ],
)
def test_a_kind_is_found_in_its_folders_under_old_and_new_names(kind: str, file: str, tmp_path: Path) -> None:
    touch(tmp_path / file)
    name = file.partition("/")[2]
    folders = ModelFolders([tmp_path])
    assert folders.find(kind, name) == tmp_path / file
    assert folders.mark(kind, name) == (0, (tmp_path / file).stat().st_mtime_ns)


def test_what_is_no_model_file_is_not_offered(tmp_path: Path) -> None:
    touch(tmp_path / "loras/notes.txt", tmp_path / "loras/.a.safetensors", tmp_path / "configs/a.safetensors")
    lists = ModelFolders([tmp_path]).lists()
    assert (lists["loras"], lists["configs"]) == ([], [])


def test_folders_of_diffusers_are_offered_as_a_whole(tmp_path: Path) -> None:
    touch(tmp_path / "diffusers/sd/model_index.json", tmp_path / "diffusers/sd/unet/a.safetensors")
    touch(tmp_path / "diffusers/other/unet/a.safetensors")
    folders = ModelFolders([tmp_path])
    assert folders.lists()["diffusers"] == ["sd"]
    assert folders.find("diffusers", "sd") == tmp_path / "diffusers/sd"


EXTRA = """
comfyui:
    base_path: {base}/comfy
    is_default: true
    checkpoints: models/checkpoints/
    text_encoders: |
        models/text_encoders/
        models/clip/
    clip_vision: models/clip_vision/
    custom_nodes: custom_nodes
a111:
    base_path: a1111
    checkpoints: models/Stable-diffusion
    loras: |
        models/Lora

        models/LyCORIS
    unet: /absolute/unet
    my_own_kind: things
empty:
"""


def test_extra_model_paths_are_read_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "config/extra_model_paths.yaml"
    touch(file, tmp_path / "comfy/models/clip/t5.safetensors", tmp_path / "config/a1111/things/odd.xyz")
    touch(tmp_path / "comfy/models/checkpoints/a.safetensors", tmp_path / "mine/checkpoints/a.safetensors")
    touch(tmp_path / "config/a1111/models/LyCORIS/l.safetensors")
    file.write_text(EXTRA.format(base=tmp_path), encoding="utf-8")
    folders = ModelFolders([tmp_path / "mine"], [file])

    assert folders.find("checkpoints", "a.safetensors") == tmp_path / "comfy/models/checkpoints/a.safetensors"
    assert folders.lists()["text_encoders"] == ["t5.safetensors"]
    assert folders.lists()["loras"] == ["l.safetensors"]
    assert folders.lists()["my_own_kind"] == ["odd.xyz"]
    assert folders.places("diffusion_models")[-1] == Path("/absolute/unet")
    assert folders.places("checkpoints")[:3] == [
        tmp_path / "comfy/models/checkpoints",
        tmp_path / "mine/checkpoints",
        tmp_path / "config/a1111/models/Stable-diffusion",
    ]
    assert folders.pack_folders == [tmp_path / "comfy/custom_nodes"]


@pytest.mark.parametrize("place", ["models/extra_model_paths.yaml", "extra_model_paths.yaml"])
def test_a_file_in_a_model_folder_or_beside_it_is_read_by_itself(place: str, tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere/a.safetensors", tmp_path / "models/loras/b.safetensors")
    (tmp_path / place).write_text(f"any:\n  loras: {tmp_path}/elsewhere\n", encoding="utf-8")
    assert ModelFolders([tmp_path / "models"]).lists()["loras"] == ["a.safetensors", "b.safetensors"]


def test_home_and_variables_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MODELS", "big")
    file = tmp_path / "extra.yaml"
    file.write_text("a:\n  base_path: ~/disk\n  vae: $MODELS/vae\n", encoding="utf-8")
    assert ModelFolders([], [file]).places("vae") == [tmp_path / "disk/big/vae"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("a: [", "is not YAML"),
        ("- a", "must hold sections"),
        ("a: b", "section a must hold folders"),
        ("a:\n  loras: [x, y]", r"a.loras must be a path, .* not \['x', 'y'\]"),
    ],
)
def test_damaged_extra_model_paths_are_told(content: str, what: str, tmp_path: Path) -> None:
    file = tmp_path / "extra.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(Misconfigured, match=what):
        ModelFolders([], [file])
    with pytest.raises(Misconfigured, match="cannot be read"):
        ModelFolders([], [tmp_path / "absent.yaml"])


def test_an_empty_file_names_nothing(tmp_path: Path) -> None:
    touch(tmp_path / "extra.yaml")
    assert ModelFolders([], [tmp_path / "extra.yaml"]).lists()["loras"] == []


def test_the_table_may_be_changed_while_it_is_in_use(tmp_path: Path) -> None:
    """As node packs do, through folder_paths."""
    touch(tmp_path / "packs/ip/a.safetensors", tmp_path / "more/l.safetensors")
    folders = ModelFolders([tmp_path])
    folders.table["ipadapter"] = ([str(tmp_path / "packs/ip")], {".safetensors"})
    folders.table["loras"][0].append(str(tmp_path / "more"))
    assert folders.lists()["ipadapter"] == ["a.safetensors"]
    assert folders.find("loras", "l.safetensors") == tmp_path / "more/l.safetensors"
    with pytest.raises(ModelFileError, match="no 'x' among the ipadapter; put it into"):
        folders.find("ipadapter", "x")
