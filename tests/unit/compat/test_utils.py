"""comfy.utils and folder_paths as packs use them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from limner.errors import ModelFileError
from limner.models import pickled
from tests.unit.compat.conftest import Packs

SEED = 4


def picture(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(SEED))


def test_a_function_without_neighbours_gives_the_same_in_tiles_as_at_once(packs: Packs) -> None:
    import comfy.utils as utils

    samples = picture(2, 3, 37, 50)

    def larger(x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) * 3

    steps: list[float] = []

    class Bar(utils.ProgressBar):
        def update(self, value: float) -> None:
            steps.append(value)

    made = utils.tiled_scale(samples, larger, tile_x=16, tile_y=12, overlap=4, upscale_amount=2, pbar=Bar(1))
    assert torch.allclose(made, larger(samples), atol=1e-5)
    assert len(steps) == 2 * utils.get_tiled_scale_steps(50, 37, tile_x=16, tile_y=12, overlap=4)


def test_tiles_in_three_dimensions_with_a_factor_for_each(packs: Packs) -> None:
    import comfy.utils as utils

    samples = picture(1, 2, 9, 20, 21)
    made = utils.tiled_scale_multidim(
        samples,
        lambda x: x.repeat_interleave(2, dim=3),
        tile=(4, 8, 8),
        overlap=(1, 2, 2),
        upscale_amount=(1, 2, 1),
        out_channels=2,
    )
    assert torch.allclose(made, samples.repeat_interleave(2, dim=3), atol=1e-5)


def test_batches_are_cut_or_repeated(packs: Packs) -> None:
    import comfy.utils as utils

    three = torch.arange(3.0)[:, None]
    assert utils.repeat_to_batch_size(three, 5).flatten().tolist() == [0, 1, 2, 0, 1]
    assert utils.repeat_to_batch_size(three, 2).flatten().tolist() == [0, 1]
    assert utils.resize_to_batch_size(three, 2).flatten().tolist() == [0, 2]
    assert utils.resize_to_batch_size(three, 6).flatten().tolist() == [0, 0, 1, 1, 2, 2]


def test_members_of_members_are_read_and_put(packs: Packs) -> None:
    import comfy.utils as utils

    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    before = utils.set_attr_param(network, "1.weight", torch.ones(2, 2))
    assert before.shape == (2, 2)
    assert utils.get_attr(network, "1.weight").tolist() == [[1, 1], [1, 1]]
    utils.copy_to_param(network, "0.bias", torch.full((2,), 7.0))
    assert network[0].bias.tolist() == [7, 7]


def test_state_dicts_are_renamed(packs: Packs) -> None:
    import comfy.utils as utils

    weights = {"a.x": 1, "b.y": 2}
    assert utils.state_dict_prefix_replace(dict(weights), {"a.": "c."}) == {"b.y": 2, "c.x": 1}
    assert utils.state_dict_prefix_replace(dict(weights), {"a.": "c."}, filter_keys=True) == {"c.x": 1}


def test_safetensors_are_read_with_their_metadata_and_pickles_are_refused(packs: Packs, tmp_path: Path) -> None:
    import comfy.utils as utils

    utils.save_torch_file({"w": torch.ones(3, dtype=torch.float16)}, tmp_path / "a.safetensors", {"made": "here"})
    weights, metadata = utils.load_torch_file(str(tmp_path / "a.safetensors"), return_metadata=True)
    assert (weights["w"].tolist(), metadata) == ([1, 1, 1], {"made": "here"})
    assert (utils.calculate_parameters(weights), utils.weight_dtype(weights)) == (3, torch.float16)
    assert b'"made":"here"' in (utils.safetensors_header(tmp_path / "a.safetensors") or b"")
    torch.save({"state_dict": {"w": torch.zeros(2)}}, tmp_path / "b.pt")
    with pytest.raises(ModelFileError, match="--allow-pickle"):
        utils.load_torch_file(tmp_path / "b.pt")
    pickled.allow(True)
    try:
        assert utils.load_torch_file(tmp_path / "b.pt")["w"].tolist() == [0, 0]
    finally:
        pickled.allow(False)


def test_save_paths_count_on_and_stay_inside(packs: Packs, tmp_path: Path) -> None:
    import folder_paths

    (tmp_path / "a").mkdir()
    for name in ("x_00004_.png", "x_00012_more_.png", "y_00099_.png", "x_no_.png"):
        (tmp_path / "a" / name).touch()
    found = folder_paths.get_save_image_path("a/x", str(tmp_path), 8, 4)
    assert found == (str(tmp_path / "a"), "x", 13, "a", "a/x")
    assert folder_paths.get_save_image_path("%width%x%height%", str(tmp_path), 8, 4)[1:3] == ("8x4", 1)
    with pytest.raises(Exception, match="leaves the folder"):
        folder_paths.get_save_image_path("../up", str(tmp_path / "a"))


def test_model_files_are_found_by_kind_and_never_outside_of_it(packs: Packs, tmp_path: Path) -> None:
    import folder_paths

    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "m.safetensors").touch()
    (tmp_path.parent / "secret.safetensors").touch()
    folder_paths.add_model_folder_path("tested_kind", str(tmp_path))
    assert folder_paths.get_filename_list("tested_kind") == ["sub/m.safetensors"]
    assert folder_paths.get_full_path("tested_kind", "sub/m.safetensors") == os.fspath(
        tmp_path / "sub" / "m.safetensors"
    )
    assert folder_paths.get_full_path("tested_kind", "../secret.safetensors") is None
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        folder_paths.get_full_path_or_raise("tested_kind", "none.safetensors")
    assert folder_paths.get_folder_paths("unet") == folder_paths.get_folder_paths("diffusion_models")
    assert folder_paths.get_full_path("checkpoints", "limner-demo.safetensors") is not None
    assert folder_paths.annotated_filepath("a.png [temp]") == ("a.png", folder_paths.get_temp_directory())


def test_a_list_of_files_remembers_its_folder_through_what_packs_do_with_it(packs: Packs) -> None:
    from limner.compat.lists import FolderList

    names = FolderList("loras", ["a", "b"])
    found = ["None"] + names + ["last"]  # noqa: RUF005 - what packs write
    assert isinstance(found, FolderList)
    assert (list(found), found.first, found.last) == (["None", "a", "b", "last"], ("None",), ("last",))
    names.insert(0, "None")
    assert (names.first, names.whole, list(names)) == (("None",), True, ["None", "a", "b"])
    names.remove("a")
    assert not names.whole
    assert type(names + ["x"]) is list  # noqa: RUF005
