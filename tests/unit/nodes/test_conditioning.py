from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.diffusion.conditioning import Conditioning
from limner.diffusion.latents import LatentFormat
from limner.errors import UnfitInput
from limner.nodes.conditioning import flux, inpainting, joining, placing


def text(value: float, tokens: int = 3, width: int = 4, **extras: Any) -> Conditioning:
    return [(torch.full((1, tokens, width), value), extras)]


def only(conditioning: Conditioning) -> tuple[Tensor, dict[str, Any]]:
    ((encoded, extras),) = conditioning
    return encoded, extras


def test_areas_in_pixels_become_places() -> None:
    given = text(1.0, area=(1, 1, 1, 1), kept=5)
    _, extras = only(placing.set_area(conditioning=given, width=128, height=64, x=8, y=16, strength=0.5))
    assert extras == {"area": (8, 16, 2, 1), "strength": 0.5, "set_area_to_bounds": False, "kept": 5}
    assert given[0][1]["area"] == (1, 1, 1, 1), "what came in stays as it was"


def test_areas_in_parts_stay_parts() -> None:
    _, extras = only(placing.set_area_percentage(conditioning=text(1.0), width=0.5, height=0.25, x=0.1, y=0.2))
    assert extras["area"] == ("percentage", 0.25, 0.5, 0.2, 0.1)


def test_strength_and_range_are_told() -> None:
    given = placing.set_area_strength(conditioning=text(1.0), strength=2.0)
    _, extras = only(placing.set_timestep_range(conditioning=given, start=0.2, end=0.7))
    assert extras == {"strength": 2.0, "start_percent": 0.2, "end_percent": 0.7}


@pytest.mark.parametrize(("area", "bounds"), [("default", False), ("mask bounds", True)])
def test_masks_are_told_with_their_strength(area: str, bounds: bool) -> None:
    mask = torch.ones(6, 8)
    _, extras = only(placing.set_mask(conditioning=text(1.0), mask=mask, strength=0.5, set_cond_area=area))
    assert (extras["mask"].shape, extras["mask_strength"], extras["set_area_to_bounds"]) == ((1, 6, 8), 0.5, bounds)


@pytest.mark.parametrize("shape", [(8,), (0, 8, 8), (1, 1, 8, 8)])
def test_a_mask_that_is_none_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnfitInput, match="the mask has the shape"):
        placing.set_mask(conditioning=text(1.0), mask=torch.zeros(shape), set_cond_area="default")


def test_combined_conditionings_stand_side_by_side() -> None:
    one, two = text(1.0), text(2.0)
    assert joining.combine(conditioning_1=one, conditioning_2=two) == [*one, *two]


def test_concatenated_texts_are_one_longer_text() -> None:
    encoded, extras = only(
        joining.concat(conditioning_to=text(1.0, kept=5), conditioning_from=text(2.0, tokens=2, lost=6))
    )
    assert encoded[0, :, 0].tolist() == [1, 1, 1, 2, 2]
    assert extras == {"kept": 5}


@pytest.mark.parametrize(("share", "value"), [(1.0, 1.0), (0.25, 0.25 + 0.75 * 3), (0.0, 3.0)])
def test_averaged_texts_are_blended(share: float, value: float) -> None:
    encoded, extras = only(
        joining.average(
            conditioning_to=text(1.0, pooled_output=torch.tensor([[1.0]])),
            conditioning_from=text(3.0, pooled_output=torch.tensor([[3.0]])),
            conditioning_to_strength=share,
        )
    )
    assert torch.allclose(encoded, torch.full((1, 3, 4), value))
    assert extras["pooled_output"].item() == pytest.approx(value)


@pytest.mark.parametrize(("tokens", "values"), [(5, [2, 2, 2]), (2, [2, 2, 0.5])])
def test_an_average_has_the_length_of_the_first(tokens: int, values: list[float]) -> None:
    encoded, _ = only(
        joining.average(
            conditioning_to=text(1.0), conditioning_from=text(3.0, tokens=tokens), conditioning_to_strength=0.5
        )
    )
    assert encoded[0, :, 0].tolist() == values


def test_an_average_takes_a_pooled_vector_from_where_there_is_one() -> None:
    pooled = torch.tensor([[3.0]])
    taken = joining.average(conditioning_to=text(1.0), conditioning_from=text(3.0, pooled_output=pooled))
    assert only(taken)[1]["pooled_output"].item() == 3
    kept = joining.average(conditioning_to=text(1.0, pooled_output=pooled), conditioning_from=text(3.0))
    assert only(kept)[1]["pooled_output"] is pooled


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ([], "conditioning_from is empty"),
        (text(1.0, width=8), "vectors of 4 values, the other in 8"),
        ([(torch.ones(3, 3, 4), {})], "one conditioning has 1 items, the other 3"),
    ],
)
def test_texts_that_do_not_go_together_are_told(other: Conditioning, what: str) -> None:
    with pytest.raises(UnfitInput, match=what):
        joining.concat(conditioning_to=text(1.0), conditioning_from=other)
    with pytest.raises(UnfitInput, match=what):
        joining.average(conditioning_to=text(1.0), conditioning_from=other, conditioning_to_strength=0.5)


def test_zeroed_text_is_zeros_with_all_else_kept() -> None:
    given = text(1.0, pooled_output=torch.ones(1, 2), area=(1, 1, 0, 0))
    encoded, extras = only(joining.zero_out(conditioning=given))
    assert encoded.count_nonzero() == extras["pooled_output"].count_nonzero() == 0
    assert extras["area"] == (1, 1, 0, 0)
    assert given[0][1]["pooled_output"].sum() == 2


def test_guidance_is_told_and_taken_away() -> None:
    told = flux.flux_guidance(conditioning=text(1.0), guidance=2.5)
    assert only(told)[1] == {"guidance": 2.5}
    assert only(flux.flux_disable_guidance(conditioning=told))[1] == {"guidance": None}


def test_reference_pictures_follow_one_another() -> None:
    first, second = {"samples": torch.ones(1, 16, 2, 2)}, {"samples": torch.zeros(1, 16, 2, 2)}
    once = flux.reference_latent(conditioning=text(1.0), latent=first)
    twice = flux.reference_latent(conditioning=once, latent=second)
    assert only(twice)[1]["reference_latents"] == [first["samples"], second["samples"]]
    assert len(only(once)[1]["reference_latents"]) == 1
    assert flux.reference_latent(conditioning=once) is once
    how = flux.flux_kontext_method(conditioning=twice, reference_latents_method="uxo/uno")
    assert only(how)[1]["reference_latents_method"] == "uxo"


@pytest.mark.parametrize(
    ("size", "wanted"), [((512, 512), (1024, 1024)), ((1000, 400), (1568, 672)), ((300, 400), (880, 1184))]
)
def test_pictures_are_scaled_to_a_size_that_kontext_knows(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    scaled = flux.flux_kontext_image_scale(image=torch.rand(1, size[1], size[0], 3))
    assert (scaled.shape[2], scaled.shape[1]) == wanted


@dataclass
class Encoder:
    """A VAE that encodes a picture as itself, one place for 8x8 pixels, and keeps what it was given."""

    latents: LatentFormat = field(default_factory=lambda: LatentFormat(channels=3, stride=8, scale=1.0))
    given: list[Tensor] = field(default_factory=list)

    def encode(self, pixels: Tensor) -> Tensor:
        self.given.append(pixels)
        return pixels[:, ::8, ::8].movedim(-1, 1)


def shown(vae: Any, pixels: Tensor, mask: Tensor, **facts: Any) -> Any:
    return inpainting.inpaint_model_conditioning(
        positive=text(1.0), negative=text(2.0), vae=vae, pixels=pixels, mask=mask, **facts
    )


def test_inpainting_models_see_the_picture_without_what_is_masked() -> None:
    vae, mask = Encoder(), torch.zeros(1, 16, 24)
    mask[:, :, :9] = 1
    positive, negative, latent = shown(vae, torch.full((1, 16, 24, 3), 0.9), mask)
    grey, whole = vae.given
    assert grey[0, 0, :, 0].tolist() == pytest.approx([0.5] * 9 + [0.9] * 15)
    assert torch.allclose(whole, torch.full((1, 16, 24, 3), 0.9))
    assert latent["noise_mask"].shape == (1, 1, 16, 24)
    assert latent["samples"].shape == (1, 3, 2, 3)
    for conditioning, value in ((positive, 1.0), (negative, 2.0)):
        encoded, extras = only(conditioning)
        assert encoded.mean() == value
        assert torch.equal(extras["concat_latent_image"], grey[:, ::8, ::8].movedim(-1, 1))
        assert extras["concat_mask"].shape == (1, 1, 16, 24)


def test_the_latent_goes_without_a_mask_where_none_is_wanted() -> None:
    _, _, latent = shown(Encoder(), torch.rand(1, 16, 16, 3), torch.ones(16, 16), noise_mask=False)
    assert "noise_mask" not in latent


@pytest.mark.parametrize("mask", [(7, 5), (1, 64, 64), (2, 16, 16), (3, 1, 16, 16)])
def test_masks_of_any_size_and_batch_are_fitted_to_the_picture(mask: tuple[int, ...]) -> None:
    vae = Encoder()
    _, _, latent = shown(vae, torch.rand(2, 21, 30, 3), torch.ones(mask))
    assert vae.given[0].shape == (2, 16, 24, 3), "what fills no whole place is cut off"
    assert latent["noise_mask"].shape[-2:] == (16, 24)
    assert torch.allclose(vae.given[0], torch.full((2, 16, 24, 3), 0.5))


@pytest.mark.parametrize(
    ("pixels", "mask", "what"),
    [
        ((1, 7, 64, 3), (1, 7, 64), "64x7 is too small"),
        ((1, 16, 16, 3), (0, 16, 16), r"mask has the shape \(0, 16, 16\)"),
    ],
)
def test_pictures_and_masks_that_are_none_are_told(pixels: Any, mask: Any, what: str) -> None:
    with pytest.raises(UnfitInput, match=what):
        shown(Encoder(), torch.rand(pixels), torch.ones(mask))
