"""What masks become, where the recorded runs do not tell: other sizes, other batches, edges, bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from torch import Tensor

from limner.errors import UnfitInput, WorkflowInvalid
from limner.graph.catalogue import Catalogue
from limner.graph.validate import validate
from tests.unit.nodes.calling import NODES, value, values
from tests.unit.nodes.contexts import result_of, run_in


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tapered", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_growing_and_shrinking_look_at_all_pixels_in_reach(steps: int, tapered: bool) -> None:
    """Against the definition, pixel by pixel: the largest value among all that are near enough."""
    mask = noise(2, 7, 9)
    rows, columns = torch.meshgrid(torch.arange(7), torch.arange(9), indexing="ij")
    down, right = ((axis.reshape(-1, 1) - axis.reshape(1, -1)).abs() for axis in (rows, columns))
    near = (down + right if tapered else torch.maximum(down, right)) <= steps
    flat = mask.reshape(2, 1, -1)
    grown = torch.where(near, flat, -1).amax(dim=-1).reshape(mask.shape)
    shrunk = torch.where(near, flat, 2).amin(dim=-1).reshape(mask.shape)
    assert torch.equal(value("GrowMask", mask=mask, expand=steps, tapered_corners=tapered), grown)
    assert torch.equal(value("GrowMask", mask=mask, expand=-steps, tapered_corners=tapered), shrunk)


@pytest.mark.parametrize("tapered", [True, False])
def test_a_mask_grown_without_end_is_its_largest_value(tapered: bool) -> None:
    mask = noise(2, 7, 9)
    grown = value("GrowMask", mask=mask, expand=16384, tapered_corners=tapered)
    assert torch.equal(grown, mask.amax(dim=(1, 2), keepdim=True).expand_as(mask))


def test_a_mask_grown_by_nothing_is_the_same() -> None:
    mask = noise(1, 5, 5)
    assert torch.equal(value("GrowMask", mask=mask, expand=0, tapered_corners=True), mask)


def test_shrinking_leaves_the_edge_of_the_picture_alone() -> None:
    mask = torch.ones(1, 5, 5)
    assert torch.equal(value("GrowMask", mask=mask, expand=-2, tapered_corners=False), mask)


def test_a_mask_without_batch_is_taken() -> None:
    assert value("GrowMask", mask=torch.ones(4, 5), expand=1, tapered_corners=True).shape == (1, 4, 5)


@pytest.mark.parametrize("sides", [{"left": 4}, {"top": 4}, {"left": 99}])
def test_feathering_rises_from_the_edge(sides: dict[str, int]) -> None:
    none = {"left": 0, "top": 0, "right": 0, "bottom": 0}
    faded = value("FeatherMask", mask=torch.ones(1, 8, 8), **{**none, **sides})
    profile = faded[0, 3] if "left" in sides else faded[0, :, 3]
    length = min(8, next(iter(sides.values())))
    assert torch.allclose(profile[:length], torch.arange(1, length + 1) / length)
    assert torch.equal(profile[length:], torch.ones(8 - length))


def test_feathering_on_the_right_and_at_the_bottom_lies_a_pixel_farther_out() -> None:
    faded = value("FeatherMask", mask=torch.ones(1, 8, 8), left=0, top=0, right=4, bottom=0)
    assert faded[0, 0].tolist() == [0.25, 1, 1, 1, 1, 1, 0.75, 0.5]
    faded = value("FeatherMask", mask=torch.ones(1, 8, 8), left=0, top=0, right=0, bottom=4)
    assert faded[0, :, 0].tolist() == [0.25, 1, 1, 1, 1, 1, 0.75, 0.5]


def test_inverting_twice_gives_the_mask_back() -> None:
    mask = noise(2, 3, 4)
    assert torch.allclose(value("InvertMask", mask=value("InvertMask", mask=mask)), mask)


@pytest.mark.parametrize("operation", ["multiply", "add", "subtract", "and", "or", "xor"])
def test_masks_are_joined_where_they_lie_on_each_other(operation: str) -> None:
    below, above = noise(1, 6, 8), noise(3, 4, 4, seed=1)
    joined = value("MaskComposite", destination=below, source=above, x=6, y=3, operation=operation)
    assert joined.shape == (3, 6, 8)
    untouched = torch.ones(6, 8, dtype=torch.bool)
    untouched[3:, 6:] = False
    assert torch.equal(joined[:, untouched], below.expand(3, -1, -1)[:, untouched])
    assert joined.min() >= 0
    assert joined.max() <= 1


def test_a_mask_that_lies_outside_changes_nothing() -> None:
    below = noise(1, 6, 8)
    joined = value("MaskComposite", destination=below, source=torch.ones(1, 4, 4), x=8, y=99, operation="add")
    assert torch.equal(joined, below)


def test_masks_of_batches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UnfitInput, match="3 masks cannot be joined with 2"):
        value("MaskComposite", destination=noise(3, 4, 4), source=noise(2, 4, 4), x=0, y=0, operation="add")


def test_a_part_of_a_mask_ends_at_its_edge() -> None:
    mask = noise(2, 6, 8)
    assert torch.equal(value("CropMask", mask=mask, x=5, y=4, width=9, height=9), mask[:, 4:, 5:])


@pytest.mark.parametrize(("x", "y"), [(8, 0), (0, 6), (16384, 16384)])
def test_a_part_outside_of_a_mask_is_refused(x: int, y: int) -> None:
    with pytest.raises(UnfitInput, match="outside of a mask of 8x6 pixels"):
        value("CropMask", mask=noise(1, 6, 8), x=x, y=y, width=1, height=1)


def test_a_negative_place_is_refused() -> None:
    mask = noise(1, 6, 8)
    with pytest.raises(UnfitInput, match="y is -1"):
        value("CropMask", mask=mask, x=0, y=-1, width=1, height=1)
    with pytest.raises(UnfitInput, match="x is -1"):
        value("MaskComposite", destination=mask, source=mask, x=-1, y=0, operation="add")
    with pytest.raises(UnfitInput, match="bottom is -3"):
        value("FeatherMask", mask=mask, left=0, top=0, right=0, bottom=-3)


def test_the_channels_of_a_picture_become_masks_and_pictures_again() -> None:
    image = noise(2, 3, 4, 4)
    for place, channel in enumerate(["red", "green", "blue", "alpha"]):
        mask = value("ImageToMask", image=image, channel=channel)
        assert torch.equal(mask, image[..., place])
        assert torch.equal(value("MaskToImage", mask=mask), mask[..., None].expand(-1, -1, -1, 3))


def test_a_channel_that_is_not_there_is_named() -> None:
    with pytest.raises(UnfitInput, match=r"3 channel\(s\) and so no alpha"):
        value("ImageToMask", image=noise(1, 3, 4, 3), channel="alpha")


def test_pixels_of_just_one_colour_are_masked() -> None:
    image = torch.tensor([0x12, 0x34, 0x56, 0xFF]).expand(1, 2, 2, 4) / 255
    image = image.clone()
    image[0, 0, 0, 2] += 1 / 255
    assert value("ImageColorToMask", image=image, color=0x123456).tolist() == [[[0, 1], [1, 1]]]


def test_a_threshold_is_passed_by_what_is_above_it() -> None:
    assert value("ThresholdMask", mask=torch.tensor([[[0.25, 0.5, 0.75]]]), value=0.5).tolist() == [[[0, 0, 1]]]


@pytest.mark.parametrize("name", ["GrowMask", "FeatherMask", "MaskToImage", "CropMask"])
def test_what_is_no_mask_is_refused(name: str) -> None:
    inputs: dict[str, dict[str, Any]] = {
        "GrowMask": {"expand": 1, "tapered_corners": True},
        "FeatherMask": {"left": 1, "top": 1, "right": 1, "bottom": 1},
        "CropMask": {"x": 0, "y": 0, "width": 1, "height": 1},
        "MaskToImage": {},
    }
    for shape in ((0, 4, 4), (1, 0, 4), (4,)):
        with pytest.raises(UnfitInput, match="masks are"):
            value(name, mask=torch.zeros(shape), **inputs[name])


def test_a_mask_is_shown_as_a_temporary_grey_picture(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    result = result_of(NODES["MaskPreview"], {"mask": torch.tensor([[[0.0, 0.5, 1.0]]])}, run.ctx)
    assert result.ui is not None
    [shown] = result.ui["images"]
    assert shown["type"] == "temp"
    assert shown["filename"].startswith("ComfyUI_temp_")
    with Pictures.open(tmp_path / shown["filename"]) as picture:
        assert np.array(picture).tolist() == [[[0, 0, 0], [127, 127, 127], [255, 255, 255]]]


@pytest.mark.parametrize(("channel", "wanted"), [("red", 10), ("green", 20), ("blue", 30), ("alpha", 255 - 40)])
def test_a_channel_of_a_file_becomes_a_mask(channel: str, wanted: int, tmp_path: Path) -> None:
    Pictures.new("RGBA", (4, 3), (10, 20, 30, 40)).save(tmp_path / "a.png")
    mask = value("LoadImageMask", tmp_path, image="a.png", channel=channel)
    assert mask.shape == (1, 3, 4)
    assert torch.allclose(mask, torch.tensor(wanted / 255))


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "CMYK", "I;16", "I"])
def test_the_alpha_of_an_opaque_file_is_an_empty_mask(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.tiff" if mode in ("CMYK", "I") else "a.png")
    Pictures.new(mode, (4, 3)).save(path)
    assert torch.equal(value("LoadImageMask", tmp_path, image=path.name, channel="alpha"), torch.zeros(1, 3, 4))


def test_a_saved_picture_is_loaded_again(tmp_path: Path) -> None:
    Pictures.new("RGBA", (4, 3), (255, 0, 51, 204)).save(tmp_path / "made.png [output]", format="PNG")
    image, mask = values("LoadImageOutput", tmp_path, image="made.png [output]")
    assert torch.allclose(image, torch.tensor([1.0, 0.0, 0.2]))
    assert torch.allclose(mask, torch.tensor(0.2), atol=1e-6)


def test_only_pictures_that_are_there_can_be_loaded_from_the_outputs() -> None:
    known = Catalogue(nodes={name: NODES[name].spec for name in ("LoadImageOutput", "PreviewImage")}, models={})
    prompt = {
        "1": {"class_type": "LoadImageOutput", "inputs": {"image": "sub/made.png [output]"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    sound = validate(prompt, known, input_files=["sub/made.png [output]"])
    assert sound.file_references == ("sub/made.png [output]",)
    with pytest.raises(WorkflowInvalid) as refused:
        validate(prompt, known, input_files=["sub/made.png"])
    [error] = refused.value.node_errors["1"]["errors"]
    assert error["details"] == "image - Invalid image file: sub/made.png [output]"
