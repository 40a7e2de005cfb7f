"""What pictures become, where the recorded runs do not tell: other sizes, batches and channels, edges, bad input."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.nodes.image.blending import BLENDS
from limner.nodes.image.compositing import MODES
from limner.nodes.image.quantizing import bayer
from tests.unit.nodes.calling import value, values


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def plain(*colour: float, size: tuple[int, int] = (6, 8), count: int = 1) -> Tensor:
    return torch.tensor(colour).expand(count, *size, len(colour)).clone()


def test_turns_and_mirrors_lead_back() -> None:
    image = noise(2, 5, 7, 4)
    turned = image
    for _ in range(4):
        turned = value("ImageRotate", image=turned, rotation="90 degrees")
    assert torch.equal(turned, image)
    assert torch.equal(value("ImageRotate", image=image, rotation="none"), image)
    for method in ("x-axis: vertically", "y-axis: horizontally"):
        twice = value("ImageFlip", image=value("ImageFlip", image=image, flip_method=method), flip_method=method)
        assert torch.equal(twice, image)


def test_a_quarter_turn_is_clockwise() -> None:
    image = torch.zeros(1, 4, 6, 3)
    image[:, 0, 0] = 1
    assert value("ImageRotate", image=image, rotation="90 degrees")[0, 0, 3].tolist() == [1, 1, 1]


@pytest.mark.parametrize("direction", ["right", "down", "left", "up"])
@pytest.mark.parametrize("spacing", [0, 3])
def test_stitched_pictures_lie_where_the_direction_says(direction: str, spacing: int) -> None:
    first, second = plain(1.0, 0.0, 0.0), plain(0.0, 0.0, 1.0)
    given = {"direction": direction, "match_image_size": True, "spacing_width": spacing, "spacing_color": "green"}
    stitched = value("ImageStitch", image1=first, image2=second, **given)
    gap = spacing + spacing % 2
    assert tuple(stitched.shape[1:3]) == ((6, 16 + gap) if direction in ("right", "left") else (12 + gap, 8))
    line = stitched[0, 0] if direction in ("right", "left") else stitched[0, :, 0]
    order = line if direction in ("right", "down") else line.flip(0)
    edge = 8 if direction in ("right", "left") else 6
    assert torch.equal(order[:edge], torch.tensor([1.0, 0.0, 0.0]).expand(edge, 3))
    assert torch.equal(order[edge : edge + gap], torch.tensor([0.0, 1.0, 0.0]).expand(gap, 3))
    assert torch.equal(order[edge + gap :], torch.tensor([0.0, 0.0, 1.0]).expand(edge, 3))


def test_a_stitched_picture_gets_the_height_of_the_first_or_a_margin() -> None:
    first, second = plain(1.0, 0.0, 0.0), plain(0.0, 0.0, 1.0, size=(3, 2))
    given = {"image1": first, "image2": second, "direction": "right", "spacing_width": 0, "spacing_color": "white"}
    assert value("ImageStitch", match_image_size=True, **given).shape == (1, 6, 12, 3)
    loose = value("ImageStitch", match_image_size=False, **given)
    assert loose.shape == (1, 6, 10, 3)
    assert loose[0, :, 9, 0].tolist() == [1, 0, 0, 0, 1, 1]
    below = value("ImageStitch", match_image_size=False, **{**given, "direction": "down"})
    assert below[0, 8, :, 0].tolist() == [1, 1, 1, 0, 0, 1, 1, 1]


def test_stitched_batches_repeat_the_last_picture_and_share_their_channels() -> None:
    first, second = torch.cat([plain(1.0, 0.0, 0.0), plain(0.0, 1.0, 0.0)]), plain(0.0, 0.0, 1.0, 0.5, count=3)
    given = {"direction": "right", "match_image_size": False, "spacing_width": 2, "spacing_color": "black"}
    stitched = value("ImageStitch", image1=first, image2=second, **given)
    assert stitched.shape == (3, 6, 18, 4)
    assert stitched[2, 0, 0].tolist() == [0, 1, 0, 1]
    assert stitched[2, 0, 8].tolist() == [0, 0, 0, 1]
    assert stitched[2, 0, 17].tolist() == [0, 0, 1, 0.5]


def test_one_picture_is_stitched_to_nothing() -> None:
    image = noise(1, 6, 8, 3)
    given = {"direction": "up", "match_image_size": True, "spacing_width": 8, "spacing_color": "red"}
    assert torch.equal(value("ImageStitch", image1=image, **given), image)


def test_a_margin_fades_into_the_picture_on_its_own_sides() -> None:
    padded, mask = values(
        "ImagePadForOutpaint", image=noise(2, 20, 20, 3), left=8, top=0, right=0, bottom=0, feathering=4
    )
    assert padded.shape == (2, 20, 28, 3)
    assert mask.shape == (1, 20, 28)
    wanted = [1.0] * 8 + [(1 - step / 4) ** 2 for step in range(4)] + [0.0] * 16
    assert torch.allclose(mask, torch.tensor(wanted).expand(1, 20, 28))


def test_a_margin_on_all_sides_fades_from_the_nearest() -> None:
    _, mask = values("ImagePadForOutpaint", image=noise(1, 20, 20, 3), left=8, top=8, right=8, bottom=8, feathering=5)
    inner = mask[0, 8:28, 8:28]
    assert inner[0, 10] == 1
    assert inner[10, 0] == 1
    assert inner[19, 10] == pytest.approx((1 - 1 / 5) ** 2)
    assert inner[1, 2] == pytest.approx((1 - 1 / 5) ** 2)
    assert inner[5:15, 5:15].count_nonzero() == 0
    assert torch.equal(inner, inner.T)


def test_a_part_of_a_picture_ends_at_its_edge() -> None:
    image = noise(2, 6, 8, 3)
    assert torch.equal(value("ImageCrop", image=image, width=4, height=3, x=6, y=5), image[:, 5:, 6:])


def test_the_first_pictures_of_a_batch_tell_size_and_the_richer_ones_channels() -> None:
    first, second = plain(1.0, 0.0, 0.0), plain(0.0, 1.0, 0.0, 0.5, size=(9, 4), count=2)
    joined = value("ImageBatch", image1=first, image2=second)
    assert joined.shape == (3, 6, 8, 4)
    assert torch.equal(joined[0], plain(1.0, 0.0, 0.0, 1.0)[0])
    assert torch.allclose(joined[1:], plain(0.0, 1.0, 0.0, 0.5, count=2))
    assert value("ImageBatch", image1=plain(0.5), image2=first).shape == (2, 6, 8, 3)


def test_pictures_of_unknown_channels_are_not_joined() -> None:
    with pytest.raises(UnfitInput, match="2 channels cannot be joined with pictures of 3"):
        value("ImageBatch", image1=plain(0.1, 0.2), image2=plain(0.1, 0.2, 0.3))


def test_batches_are_repeated_and_taken_apart() -> None:
    image = noise(3, 2, 2, 3)
    assert torch.equal(value("RepeatImageBatch", image=image, amount=2), torch.cat([image, image]))
    assert torch.equal(value("ImageFromBatch", image=image, batch_index=1, length=9), image[1:])
    assert torch.equal(value("ImageFromBatch", image=image, batch_index=9, length=9), image[2:])


def test_pictures_are_rebatched_in_order() -> None:
    given = [noise(3, 4, 4, 3), noise(2, 4, 4, 3, seed=1)]
    batches = value("RebatchImages", images=given, batch_size=[2])
    assert [len(each) for each in batches] == [2, 2, 1]
    assert torch.equal(torch.cat(batches), torch.cat(given))
    with pytest.raises(UnfitInput, match="different shapes cannot be one batch"):
        value("RebatchImages", images=[noise(1, 4, 4, 3), noise(1, 4, 5, 3)], batch_size=[4])


@pytest.mark.parametrize("radius", [1, 5, 31])
@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 3, 2, 4), (1, 40, 50, 1)])
def test_blurring_and_sharpening_keep_what_is_plain(radius: int, shape: tuple[int, ...]) -> None:
    image = torch.full(shape, 0.25)
    assert torch.allclose(value("ImageBlur", image=image, blur_radius=radius, sigma=1.0), image, atol=1e-5)
    sharper = value("ImageSharpen", image=image, sharpen_radius=radius, sigma=1.0, alpha=5.0)
    assert torch.allclose(sharper, image, atol=1e-4)


def test_a_blur_spreads_a_dot_evenly() -> None:
    image = torch.zeros(1, 15, 15, 1)
    image[0, 7, 7] = 1
    spread = value("ImageBlur", image=image, blur_radius=3, sigma=1.0)
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(spread, value("ImageRotate", image=spread, rotation="90 degrees"))
    assert spread[0, 3].count_nonzero() == 0
    assert spread[0, 4, 4:11].count_nonzero() == 7


@pytest.mark.parametrize("mode", BLENDS)
def test_a_blend_of_nothing_is_the_first_picture(mode: str) -> None:
    first, second = noise(2, 6, 8, 3), noise(1, 12, 9, 4, seed=1)
    blended = value("ImageBlend", image1=first, image2=second, blend_factor=0.0, blend_mode=mode)
    assert torch.equal(blended, first)
    whole = value("ImageBlend", image1=first, image2=second, blend_factor=1.0, blend_mode=mode)
    assert whole.shape == first.shape


def test_batches_that_do_not_fit_are_not_blended() -> None:
    with pytest.raises(UnfitInput, match="2 pictures cannot be blended with 3"):
        value("ImageBlend", image1=noise(2, 4, 4, 3), image2=noise(3, 4, 4, 3), blend_factor=0.5, blend_mode="normal")


@pytest.mark.parametrize("dither", ["none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"])
@pytest.mark.parametrize("colors", [1, 2, 16, 256])
def test_a_quantized_picture_has_no_more_colours(dither: str, colors: int) -> None:
    image = noise(2, 17, 19, 4)
    few = value("ImageQuantize", image=image, colors=colors, dither=dither)
    assert few.shape == (2, 17, 19, 3)
    for item in few:
        assert len(item.reshape(-1, 3).unique(dim=0)) <= colors


def test_ordered_dithering_shows_the_shades_between() -> None:
    ramp = torch.linspace(0, 1, 64)[None, None, :, None].expand(1, 64, 64, 3)
    hard = value("ImageQuantize", image=ramp, colors=2, dither="none")
    soft = value("ImageQuantize", image=ramp, colors=2, dither="bayer-8")
    assert len(hard[0, :, 32].unique()) == 1
    assert len(soft[0, :, 32].unique()) == 2


@pytest.mark.parametrize("refinements", [1, 2, 3, 4])
def test_the_threshold_pattern_has_every_step_once(refinements: int) -> None:
    pattern = bayer(refinements)
    count = 4**refinements
    assert np.allclose(np.sort(pattern.ravel()), (np.arange(count) - (count - 1) / 2) / count)


@pytest.mark.parametrize("size", [3, 4, 7, 999])
def test_opening_takes_away_and_closing_adds_and_twice_is_once(size: int) -> None:
    image = noise(1, 21, 23, 3)
    opened, closed = (value("Morphology", image=image, operation=word, kernel_size=size) for word in ("open", "close"))
    assert (opened <= image).all()
    assert (closed >= image).all()
    assert torch.equal(value("Morphology", image=opened, operation="open", kernel_size=size), opened)
    assert torch.equal(value("Morphology", image=closed, operation="close", kernel_size=size), closed)
    top = value("Morphology", image=image, operation="top_hat", kernel_size=size)
    bottom = value("Morphology", image=image, operation="bottom_hat", kernel_size=size)
    assert torch.equal(top, image - opened)
    assert torch.equal(bottom, closed - image)


@pytest.mark.parametrize("size", [3, 4, 5, 8])
def test_dilation_looks_at_every_pixel_of_the_square(size: int) -> None:
    image = noise(1, 9, 11, 2)
    dilated = value("Morphology", image=image, operation="dilate", kernel_size=size)
    after, before = size // 2, size - size // 2 - 1
    for row in range(9):
        for column in range(11):
            square = image[0, max(0, row - before) : row + after + 1, max(0, column - before) : column + after + 1]
            assert torch.equal(dilated[0, row, column], square.amax(dim=(0, 1)))


def test_brightness_and_colour_differences_make_the_picture_again() -> None:
    image = noise(2, 5, 6, 3)
    y, u, v = values("ImageRGBToYUV", image=image)
    assert torch.allclose(value("ImageYUVToRGB", Y=y, U=u, V=v), image, atol=1e-5)
    y, u, v = values("ImageRGBToYUV", image=plain(0.3, 0.3, 0.3, 1.0))
    assert y.unique().tolist() == pytest.approx([0.3])
    assert u.unique().tolist() == pytest.approx([0.5])
    assert v.unique().tolist() == pytest.approx([0.5])


def test_parts_of_different_sizes_are_not_joined() -> None:
    with pytest.raises(UnfitInput, match="sizes must be equal"):
        value("ImageYUVToRGB", Y=noise(1, 4, 4, 3), U=noise(1, 4, 5, 3), V=noise(1, 4, 4, 3))


def test_grain_is_the_seeds_own_and_stays_in_range() -> None:
    image = plain(0.5, 0.5, 0.5, count=2)
    one, again, other = (value("ImageAddNoise", image=image, seed=seed, strength=1.0) for seed in (1, 1, 2**64 - 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])
    assert one.min() == 0
    assert one.max() == 1
    assert torch.equal(value("ImageAddNoise", image=image, seed=1, strength=0.0), image)


def disc() -> Tensor:
    """A white disc on black, 64 pixels wide, with a soft rim; its centre lies beside the pixels' own."""
    down, right = torch.arange(64)[:, None] - 31.3, torch.arange(64) - 31.6
    inside = (20.4 - (down**2 + right**2).sqrt()).clamp(0, 1)
    return inside[None, ..., None].expand(1, 64, 64, 3)


def test_the_edge_of_a_disc_is_a_thin_closed_line() -> None:
    edges = value("Canny", image=disc(), low_threshold=0.4, high_threshold=0.8)
    assert edges.shape == (1, 64, 64, 3)
    assert set(edges.unique().tolist()) == {0.0, 1.0}
    rows, columns = edges[0, ..., 0].nonzero(as_tuple=True)
    distance = ((rows - 31.3) ** 2 + (columns - 31.6) ** 2).sqrt()
    assert (distance - 19.9).abs().max() < 1
    directions = torch.atan2(rows - 31.3, columns - 31.6).sort().values
    assert directions.diff().max() < 0.12
    assert len(rows) < 1.3 * 2 * torch.pi * 19.9  # a line whose pixels all share an edge has 8 radii


def test_weak_edges_are_drawn_only_where_a_strong_one_leads_to_them() -> None:
    """A step whose height falls from top to bottom, and a low one by itself."""
    image = torch.zeros(1, 40, 60, 3)
    image[0, :, 20:] = torch.linspace(1, 0.25, 40)[:, None, None]
    image[0, :, 40:] += 0.2
    image = image.clamp(0, 1)
    steep = value("Canny", image=image, low_threshold=0.3, high_threshold=0.9)[0, ..., 0]
    alone = value("Canny", image=image, low_threshold=0.9, high_threshold=0.9)[0, ..., 0]
    assert steep[:, 18:22].amax(dim=1).sum() > alone[:, 18:22].amax(dim=1).sum()
    assert alone.sum() > 0
    assert steep[:, 36:44].sum() == 0


def test_nothing_plain_has_an_edge_and_thresholds_must_be_in_order() -> None:
    for shape in ((1, 1, 1, 3), (2, 2, 9, 1), (1, 30, 30, 4)):
        assert value("Canny", image=torch.full(shape, 0.5), low_threshold=0.01, high_threshold=0.02).sum() == 0
    with pytest.raises(UnfitInput, match=r"low_threshold is 0\.9"):
        value("Canny", image=disc(), low_threshold=0.9, high_threshold=0.8)


def test_splitting_and_joining_alpha_lead_back() -> None:
    image = noise(2, 5, 6, 4)
    colours, mask = values("SplitImageWithAlpha", image=image)
    assert torch.equal(mask, 1 - image[..., 3])
    assert torch.allclose(value("JoinImageWithAlpha", image=colours, alpha=mask), image)
    _, none = values("SplitImageWithAlpha", image=image[..., :3])
    assert none.count_nonzero() == 0


def test_alpha_of_another_size_and_batch_is_stretched_and_cut() -> None:
    joined = value("JoinImageWithAlpha", image=noise(3, 6, 8, 3), alpha=torch.ones(2, 64, 64))
    assert joined.shape == (2, 6, 8, 4)
    assert joined[..., 3].count_nonzero() == 0


def test_a_composite_reaches_only_where_the_source_lies() -> None:
    below, above = noise(3, 6, 8, 3), plain(9.0, 9.0, 9.0, 0.5, size=(4, 4), count=2)
    given = {"destination": below, "source": above, "x": 6, "y": 4, "resize_source": False}
    result = value("ImageCompositeMasked", **given)
    assert torch.equal(result[:, 4:, 6:], torch.full((3, 2, 2, 3), 9.0))
    result[:, 4:, 6:] = below[:, 4:, 6:]
    assert torch.equal(result, below)
    outside = value("ImageCompositeMasked", **{**given, "x": 8})
    assert torch.equal(outside, below)


def test_a_composite_onto_transparent_pictures_is_opaque_where_the_source_lies() -> None:
    below, above = plain(0.0, 0.0, 0.0, 0.0), plain(1.0, 1.0, 1.0, size=(2, 2))
    result = value("ImageCompositeMasked", destination=below, source=above, x=0, y=0, resize_source=False)
    assert result[0, ..., 3].sum() == 4


@pytest.mark.parametrize("mode", MODES.keys() - {"LIGHTEN", "OVERLAY"})
def test_a_clear_source_leaves_the_destination_where_the_mode_shows_it(mode: str) -> None:
    """Sizes and batches differ. LIGHTEN and OVERLAY, as recorded, count what lies below twice or not at all."""
    given: dict[str, Any] = {"destination": noise(3, 6, 8, 4), "destination_alpha": torch.zeros(3, 12, 12)}
    given |= {"source": noise(2, 12, 9, 3, seed=1), "source_alpha": torch.ones(2, 3, 3), "mode": mode}
    colours, mask = values("PorterDuffImageComposite", **given)
    assert colours.shape == (2, 6, 8, 3)
    assert mask.shape == (2, 6, 8)
    hidden = mode in ("CLEAR", "DST_ATOP", "DST_IN", "MULTIPLY", "SRC", "SRC_IN", "SRC_OUT")
    assert torch.equal(mask, torch.full_like(mask, float(hidden)))
    shown = torch.zeros_like(colours) if hidden else given["destination"][:2, ..., :3]
    assert torch.allclose(colours, shown, atol=1e-6)


LINKED: list[tuple[str, dict[str, Any], str]] = [
    ("ImageCrop", {"width": 2, "height": 2, "x": -1, "y": 0}, "x is -1"),
    ("ImageFromBatch", {"batch_index": -2, "length": 1}, "batch_index is -2"),
    ("ImagePadForOutpaint", {"left": 0, "top": -8, "right": 0, "bottom": 0, "feathering": 0}, "top is -8"),
    ("ImageBlur", {"blur_radius": 1, "sigma": 0.0}, r"sigma 0\.0"),
    ("ImageSharpen", {"sharpen_radius": -1, "sigma": 1.0, "alpha": 1.0}, "radius -1"),
    ("ImageSharpen", {"sharpen_radius": 1, "sigma": float("nan"), "alpha": 1.0}, "sigma nan"),
    ("Morphology", {"operation": "erode", "kernel_size": 0}, "kernel_size is 0"),
]


@pytest.mark.parametrize(("name", "inputs", "fault"), LINKED)
def test_numbers_that_only_a_link_can_bring_are_refused(name: str, inputs: dict[str, Any], fault: str) -> None:
    with pytest.raises(UnfitInput, match=fault):
        value(name, image=noise(1, 6, 8, 3), **inputs)
