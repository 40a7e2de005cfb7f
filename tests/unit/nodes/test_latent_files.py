import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from limner.errors import ModelFileError, UnfitInput
from limner.graph.literals import offered_files
from limner.nodes import library
from tests.unit.nodes.contexts import run_in

NODES = library.load()


def load(folder: Path, name: str) -> dict[str, Any]:
    values: tuple[dict[str, Any], ...] = NODES["LoadLatent"].call({"latent": name}, run_in(folder).ctx).values
    return values[0]


def test_a_latent_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    samples = torch.randn(2, 16, 3, 5)
    inputs = {"samples": {"samples": samples, "noise_mask": torch.ones(1, 3, 5)}, "filename_prefix": "a"}
    told = {"prompt": {"1": {}}, "extra_pnginfo": {"workflow": {"nodes": []}}}
    result = NODES["SaveLatent"].call({**inputs, **told}, run.ctx)
    assert result.ui == {"latents": [{"filename": "a_00001_.latent", "subfolder": "", "type": "output"}]}
    loaded = load(tmp_path, "a_00001_.latent")
    assert loaded.keys() == {"samples"}
    assert torch.equal(loaded["samples"], samples)
    with safe_open(tmp_path / "a_00001_.latent", "pt") as file:
        assert set(file.keys()) == {"latent_tensor", "latent_format_version_0"}
        assert {key: json.loads(value) for key, value in file.metadata().items()} == {
            "prompt": {"1": {}},
            "workflow": {"nodes": []},
        }


def test_files_of_before_there_were_versions_are_brought_to_the_vae_s_units(tmp_path: Path) -> None:
    save_file({"latent_tensor": torch.full((1, 4, 2, 2), 0.18215)}, tmp_path / "old.latent")
    torch.testing.assert_close(load(tmp_path, "old.latent")["samples"], torch.ones(1, 4, 2, 2))


def test_what_is_no_latent_is_refused(tmp_path: Path) -> None:
    save_file({"other": torch.zeros(2)}, tmp_path / "a.latent")
    save_file({"latent_tensor": torch.zeros(2)}, tmp_path / "b.latent")
    for name in ("a.latent", "b.latent"):
        with pytest.raises(UnfitInput, match=f"{name} holds no latent"):
            load(tmp_path, name)
    (tmp_path / "c.latent").write_bytes(b"no such thing")
    with pytest.raises(ModelFileError, match=r"c.latent cannot be used"):
        load(tmp_path, "c.latent")
    with pytest.raises(UnfitInput, match="extra_pnginfo is an object"):
        NODES["SaveLatent"].call(
            {"samples": {"samples": torch.zeros(1, 4, 2, 2)}, "extra_pnginfo": 3}, run_in(tmp_path).ctx
        )


def test_only_latents_are_offered() -> None:
    assert offered_files("latent", ["a.latent", "b.png", "sub/c.latent"]) == ["a.latent"]
