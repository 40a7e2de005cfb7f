"""Pictures and latents made of nothing, and brought to other sizes, where no recording tells what comes out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.errors import OutOfMemory, UnfitInput
from limner.nodes.scaling import METHODS
from tests.unit.nodes.calling import NODES, value, values
from tests.unit.nodes.contexts import result_of, run_in


def colours(*shades: float, height: int = 6, width: int = 8, channels: int = 3) -> Tensor:
    """A plain picture for each shade."""
    return torch.tensor(shades)[:, None, None, None].expand(-1, height, width, channels).clone()


def test_a_picture_scaled_to_nothing_on_both_edges_stays_as_it_is() -> None:
    image = torch.rand(1, 6, 8, 3)
    assert value("ImageScale", image=image, upscale_method="area", width=0, height=0, crop="center") is image


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_a_batch_keeps_its_order_and_its_channels(method: str, channels: int) -> None:
    scaled = value("ImageScaleBy", image=colours(0.2, 0.6, channels=channels), upscale_method=method, scale_by=0.5)
    assert scaled.shape == (2, 3, 4, channels)
    assert scaled.mean(dim=(1, 2, 3)).tolist() == pytest.approx([0.2, 0.6], abs=1 / 255)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("crop", ["disabled", "center"])
def test_a_picture_in_its_own_size_is_the_same(method: str, crop: str) -> None:
    image = torch.rand(2, 5, 7, 3).mul(255).floor() / 255
    scaled = value("ImageScale", image=image, upscale_method=method, width=7, height=5, crop=crop)
    assert (scaled - image).abs().max() <= 1 / 255 + 1e-6


def test_what_is_transparent_gives_no_colour_to_its_neighbours() -> None:
    image = torch.zeros(1, 8, 8, 4)
    image[:, :, :4] = torch.tensor([1.0, 0.0, 0.0, 1.0])
    image[:, :, 4:] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    scaled = value("ImageScale", image=image, upscale_method="lanczos", width=32, height=32, crop="disabled")
    assert scaled[..., 3].unique().numel() > 2
    assert scaled[..., 1].max() == 0


def test_the_middle_is_what_a_cut_leaves() -> None:
    image = torch.zeros(1, 4, 12, 3)
    image[:, :, 4:8] = 1
    scaled = value("ImageScale", image=image, upscale_method="nearest-exact", width=8, height=8, crop="center")
    assert torch.equal(scaled, torch.ones(1, 8, 8, 3))


@pytest.mark.parametrize("shape", [(1, 2, 1, 3), (1, 1, 2, 3), (1, 1, 1, 3)])
def test_the_cut_leaves_something_of_the_smallest_picture(shape: tuple[int, ...]) -> None:
    for width, height in ((9000, 1), (1, 9000)):
        scaled = value(
            "ImageScale", image=torch.ones(shape), upscale_method="area", width=width, height=height, crop="center"
        )
        assert scaled.shape == (1, height, width, 3)


@pytest.mark.parametrize(("size", "wanted"), [((10, 40), (5, 20)), ((40, 10), (20, 5)), ((1, 4000), (1, 20))])
def test_the_longer_edge_gets_the_length_that_is_told(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    scaled = value("ImageScaleToMaxDimension", image=torch.ones(1, *size, 3), upscale_method="area", largest_size=20)
    assert tuple(scaled.shape[1:3]) == wanted


def test_the_longest_edge_of_0_leaves_a_picture_alone() -> None:
    image = torch.rand(1, 3, 4, 3)
    assert value("ImageScaleToMaxDimension", image=image, upscale_method="area", largest_size=0) is image


def test_a_picture_gets_its_megapixels_in_its_proportions() -> None:
    image = torch.ones(1, 10, 40, 3)
    scaled = value("ImageScaleToTotalPixels", image=image, upscale_method="area", megapixels=0.01)
    assert tuple(scaled.shape) == (1, 51, 205, 3)


@pytest.mark.parametrize(("width", "height"), [(10, 4), (4, 10), (1, 1), (3, 200)])
@pytest.mark.parametrize("colour", ["white", "black"])
def test_a_padded_picture_lies_in_the_middle(width: int, height: int, colour: str) -> None:
    padded = value(
        "ResizeAndPadImage",
        image=colours(0.5),
        target_width=width,
        target_height=height,
        padding_color=colour,
        interpolation="area",
    )
    assert padded.shape == (1, height, width, 3)
    rows, columns = (padded[0, ..., 0] == 0.5).nonzero(as_tuple=True)
    assert abs(int(rows.min()) - (height - 1 - int(rows.max()))) <= 1
    assert abs(int(columns.min()) - (width - 1 - int(columns.max()))) <= 1
    assert set(padded.unique().tolist()) <= {0.5, 1.0 if colour == "white" else 0.0}


def test_the_size_of_pictures_is_given_and_shown(tmp_path: Path) -> None:
    told: list[Any] = []
    run = run_in(tmp_path, on_event=told.append)
    result = result_of(NODES["GetImageSize"], {"image": torch.zeros(3, 4, 5, 3), "unique_id": "1"}, run.ctx)
    assert result.values == (5, 4, 3)
    assert [event.text for event in told] == ["width: 5, height: 4\n batch size: 3"]


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("EmptyImage", {"width": 16384, "height": 16384, "batch_size": 4096, "color": 0}),
        ("EmptyLatentImage", {"width": 16384, "height": 16384, "batch_size": 4096}),
        ("RepeatImageBatch", {"image": torch.zeros(1, 1024, 1024, 3).expand(64, -1, -1, -1), "amount": 4096}),
        (
            "RepeatLatentBatch",
            {"samples": {"samples": torch.zeros(1, 1).expand(2**20, 2**10)[:, :, None]}, "amount": 64},
        ),
    ],
)
def test_more_than_the_memory_is_refused_before_it_is_taken(name: str, inputs: dict[str, Any]) -> None:
    with pytest.raises(OutOfMemory, match="GiB"):
        value(name, **inputs)


def test_an_empty_latent_has_a_place_for_each_8_pixels() -> None:
    assert value("EmptyLatentImage", width=64, height=32, batch_size=2)["samples"].shape == (2, 4, 4, 8)


NOTHING: dict[str, dict[str, Any]] = {
    "ImageScale": {"upscale_method": "area", "width": 4, "height": 4, "crop": "disabled"},
    "ImageScaleBy": {"upscale_method": "area", "scale_by": 2.0},
    "ImageScaleToTotalPixels": {"upscale_method": "area", "megapixels": 1.0},
    "ImageScaleToMaxDimension": {"upscale_method": "area", "largest_size": 4},
    "ResizeAndPadImage": {"target_width": 4, "target_height": 4, "padding_color": "white", "interpolation": "area"},
    "ImagePadForOutpaint": {"left": 8, "top": 0, "right": 0, "bottom": 0, "feathering": 0},
    "ImageCrop": {"width": 1, "height": 1, "x": 0, "y": 0},
    "ImageFlip": {"flip_method": "x-axis: vertically"},
    "ImageRotate": {"rotation": "90 degrees"},
    "RepeatImageBatch": {"amount": 2},
    "ImageFromBatch": {"batch_index": 0, "length": 1},
    "ImageAddNoise": {"seed": 1, "strength": 0.5},
    "ImageToMask": {"channel": "red"},
    "ImageColorToMask": {"color": 0},
    "ImageBlur": {"blur_radius": 1, "sigma": 1.0},
    "ImageSharpen": {"sharpen_radius": 1, "sigma": 1.0, "alpha": 1.0},
    "ImageQuantize": {"colors": 2, "dither": "none"},
    "Morphology": {"operation": "erode", "kernel_size": 3},
    "Canny": {"low_threshold": 0.1, "high_threshold": 0.2},
    "ImageRGBToYUV": {},
    "SplitImageWithAlpha": {},
}


@pytest.mark.parametrize("name", NOTHING)
@pytest.mark.parametrize("shape", [(0, 6, 8, 3), (1, 0, 8, 3), (6, 8, 3)])
def test_what_is_no_picture_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UnfitInput, match="pictures are"):
        values(name, image=torch.zeros(shape), **NOTHING[name])
