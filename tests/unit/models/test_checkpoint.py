import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from limner.errors import ModelFileError
from limner.models.checkpoint import read_header
from limner.models.family import detect
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.models.weights import open_weights


def safetensors(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


WHOLE = safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(8))

BAD_FILES = {
    "empty": (b"", "cut short: 0 bytes"),
    "a few bytes": (b"12345", "cut short: 5 bytes"),
    "header cut": (WHOLE[:30], "cut short: its header alone"),
    "weights cut": (WHOLE[:-3], f"cut short: {len(WHOLE) - 3} bytes of {len(WHOLE)}"),
    "pickle": (pickle.dumps({"a": 1}), "pickled PyTorch file"),
    "old pickle": (pickle.dumps({"a": 1}, protocol=2), "pickled PyTorch file"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 4\n", "git lfs pull"),
    "GGUF": (b"GGUF" + bytes(100), "GGUF"),
    "a web page": (b"<!DOCTYPE html><html><body>Sign in</body></html>", "not a safetensors file"),
    "huge header": ((1 << 62).to_bytes(8, "little") + b"{" + bytes(100), "not a safetensors file"),
    "not JSON": (safetensors(b"{nothing}"), "header is damaged"),
    "not UTF-8": (safetensors(b'{"\xff": 1}'), "header is damaged"),
    "a list": (safetensors(b"{" + b"[" * 100), "header is damaged"),
    "no shape": (safetensors({"a": {"dtype": "F32"}}), "header is damaged"),
    "odd offsets": (safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": []}}), "header is damaged"),
    "deep": (safetensors(b'{"a":' + b"[" * 200_000), "header is damaged"),
    "nothing inside": (safetensors({}), "holds no tensors"),
}


@pytest.mark.parametrize(("content", "what"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_model_says_what_it_is(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"model\.safetensors cannot be used: .*" + what):
        read_header(path)


def test_a_pickled_checkpoint_is_named_and_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    torch.save({"state_dict": {}}, path)
    assert zipfile.is_zipfile(path)
    with pytest.raises(ModelFileError, match=r"old\.ckpt .*pickled PyTorch file, which can run code; convert it"):
        read_header(path)


def test_an_absent_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        read_header(tmp_path / "none.safetensors")
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_header(tmp_path)


def test_a_whole_file_is_read_without_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"w": torch.zeros(3, 4, dtype=torch.float16)}, path, {"k": "v"})
    header = read_header(path)
    assert (header.shape("w"), header.dtypes["w"], header.metadata) == ((3, 4), "F16", {"k": "v"})
    assert "w" in header
    assert header.shape("other") is None


@pytest.mark.parametrize(
    ("key", "looks"),
    [
        ("cond_stage_model.model.ln_final.weight", "text encoders without a model"),
        ("lora_unet_down_blocks_0.lora_up.weight", "a LoRA, not a model"),
        ("double_blocks.0.img_attn.norm.key_norm.scale", "Flux"),
        ("decoder.conv_in.weight", "a VAE, not a model"),
        ("what.ever", "its architecture is unknown"),
    ],
)
def test_a_file_of_another_family_says_what_it_looks_like(key: str, looks: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({key: torch.zeros(1)}, path)
    with pytest.raises(ModelFileError, match=rf"{looks}.*this version reads models of: Stable Diffusion 1\.x"):
        detect(open_weights(path))


def test_names_are_paths_below_the_folder_and_the_first_root_wins(tmp_path: Path) -> None:
    for root in ("one", "two"):
        for name in ("a.safetensors", "sub/b.ckpt", "notes.txt", ".hidden/c.safetensors"):
            path = tmp_path / root / "checkpoints" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    folders = ModelFolders([tmp_path / "one", tmp_path / "two"])
    mine = [name for name in folders.lists()["checkpoints"] if name != "limner-demo.safetensors"]
    assert mine == ["a.safetensors", "sub/b.ckpt"]
    assert folders.find("checkpoints", "a.safetensors") == tmp_path / "one/checkpoints/a.safetensors"


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/a.safetensors").symlink_to(tmp_path / "unmounted/a.safetensors")
    with pytest.raises(ModelFileError, match=r"a\.safetensors cannot be used: it cannot be read"):
        ModelLibrary(ModelFolders([tmp_path])).checkpoint("a.safetensors")


def test_links_that_go_in_circles_end(tmp_path: Path) -> None:
    (tmp_path / "loras/sub").mkdir(parents=True)
    (tmp_path / "loras/a.safetensors").touch()
    (tmp_path / "loras/sub/up").symlink_to(tmp_path / "loras")
    assert ModelFolders([tmp_path]).lists()["loras"] == ["a.safetensors"]


@pytest.mark.parametrize("name", ["none.safetensors", "../secret.safetensors", "/etc/passwd", ""])
def test_a_name_that_is_not_listed_is_not_found(name: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "secret.safetensors").touch()
    with pytest.raises(ModelFileError, match=rf"there is no {name!r} among the checkpoints; put it into"):
        ModelFolders([tmp_path]).find("checkpoints", name)
