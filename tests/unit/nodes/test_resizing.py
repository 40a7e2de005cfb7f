from typing import Any

import pytest
import torch
import torch.nn.functional as F

from limner.errors import UnfitInput
from limner.nodes import library
from tests.unit.nodes.contexts import result_of

NODES = library.load()
PICTURE = torch.rand(2, 40, 60, 3, generator=torch.Generator().manual_seed(1))


def resize(input: torch.Tensor, way: str, method: str = "area", **options: Any) -> torch.Tensor:
    dotted = {f"resize_type.{name}": value for name, value in options.items()}
    inputs = {"input": input, "resize_type": way, "scale_method": method, **dotted}
    (resized,) = result_of(NODES["ResizeImageMaskNode"], inputs).values
    assert isinstance(resized, torch.Tensor)
    return resized


@pytest.mark.parametrize(
    ("way", "options", "size"),
    [
        ("scale dimensions", {"width": 30, "height": 10, "crop": "disabled"}, (10, 30)),
        ("scale dimensions", {"width": 30, "height": 0, "crop": "center"}, (20, 30)),
        ("scale dimensions", {"width": 0, "height": 0, "crop": "center"}, (40, 60)),
        ("scale by multiplier", {"multiplier": 1.5}, (60, 90)),
        ("scale longer dimension", {"longer_size": 30}, (20, 30)),
        ("scale shorter dimension", {"shorter_size": 80}, (80, 120)),
        ("scale width", {"width": 90}, (60, 90)),
        ("scale height", {"height": 20}, (20, 30)),
        ("scale total pixels", {"megapixels": 0.01}, (84, 125)),
        ("match size", {"match": torch.zeros(1, 8, 9, 3), "crop": "center"}, (8, 9)),
        ("match size", {"match": torch.zeros(1, 8, 9), "crop": "disabled"}, (8, 9)),
        ("scale to multiple", {"multiple": 16}, (32, 48)),
        ("scale to multiple", {"multiple": 50}, (40, 50)),
    ],
)
@pytest.mark.parametrize("is_mask", [False, True])
def test_every_way_gives_its_size(way: str, options: dict[str, Any], size: tuple[int, int], is_mask: bool) -> None:
    resized = resize(PICTURE[..., 0] if is_mask else PICTURE, way, **options)
    assert resized.shape == ((2, *size) if is_mask else (2, *size, 3))


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"])
def test_every_method_keeps_an_even_colour(method: str) -> None:
    resized = resize(torch.full((1, 20, 20, 3), 0.6), "scale by multiplier", method, multiplier=0.7)
    assert torch.allclose(resized, torch.tensor(0.6), atol=1 / 255)


def test_area_is_the_mean_of_what_is_covered() -> None:
    resized = resize(PICTURE, "scale by multiplier", multiplier=0.5)
    assert torch.allclose(resized, F.avg_pool2d(PICTURE.movedim(-1, 1), 2).movedim(1, -1), atol=1e-6)


def test_a_crop_takes_the_middle() -> None:
    columns = torch.arange(60.0).expand(1, 40, 60)
    cut = resize(columns, "scale dimensions", "nearest-exact", width=40, height=40, crop="center")
    assert cut[0, 0].tolist() == [*range(10, 50)]


@pytest.mark.parametrize(
    ("way", "options", "what"),
    [
        ("scale dimension", {}, "is none of scale dimensions"),
        ("scale width", {}, "width must be given"),
        ("scale longer dimension", {"longer_size": 0}, "cannot make pictures 0.0 times"),
        ("scale by multiplier", {"multiplier": float("nan")}, "cannot make pictures nan times"),
        ("match size", {"match": torch.zeros(1, 0, 4, 3), "crop": "center"}, "match has the shape"),
    ],
)
def test_what_cannot_be_a_size_is_told(way: str, options: dict[str, Any], what: str) -> None:
    with pytest.raises(UnfitInput, match=what):
        resize(PICTURE, way, **options)


def test_what_is_neither_picture_nor_mask_is_refused() -> None:
    with pytest.raises(UnfitInput, match="input has the shape"):
        resize(torch.zeros(1, 2, 3, 4, 5), "scale width", width=4)


def batch(*parts: torch.Tensor) -> torch.Tensor:
    inputs = {f"images.image{number}": part for number, part in enumerate(parts)}
    (joined,) = result_of(NODES["BatchImagesNode"], inputs).values
    assert isinstance(joined, torch.Tensor)
    return joined


def test_pictures_are_joined_in_the_order_of_their_numbers() -> None:
    parts = [torch.full((1, 2, 2, 3), number / 20) for number in range(12)]
    assert batch(*parts)[:, 0, 0, 0].tolist() == pytest.approx([number / 20 for number in range(12)])


def test_pictures_of_another_size_are_brought_to_the_first_one_s() -> None:
    joined = batch(torch.zeros(2, 10, 20, 3), torch.ones(1, 40, 40, 4), torch.full((1, 5, 5, 1), 0.5))
    assert joined.shape == (4, 10, 20, 4)
    assert joined[:, 0, 0].tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 1], [0.5, 0.5, 0.5, 1]]


def test_no_pictures_make_no_batch() -> None:
    with pytest.raises(UnfitInput, match="no picture is connected"):
        batch()
