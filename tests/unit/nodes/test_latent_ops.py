"""What latents become, where the recorded runs do not tell: other sizes and batches, noise, masks, operations."""

from typing import Any

import pytest
import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.models.device import Devices
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.nodes.scaling import LATENT_METHODS
from limner.nodes.slerp import bislerp, slerp
from tests.unit.nodes.calling import value

AXES = {"x": -1, "y": -2, "t": -3}


def latent(*shape: int, seed: int = 0, **more: Any) -> dict[str, Any]:
    return {"samples": torch.randn(shape, generator=torch.Generator().manual_seed(seed)), **more}


def samples(name: str, **inputs: Any) -> Tensor:
    result: Tensor = value(name, **inputs)["samples"]
    return result


@pytest.mark.parametrize("method", LATENT_METHODS)
@pytest.mark.parametrize("shape", [(2, 4, 8, 10), (2, 16, 3, 8, 10)])
def test_a_latent_in_its_own_size_is_the_same(method: str, shape: tuple[int, ...]) -> None:
    start = latent(*shape)
    assert torch.allclose(
        samples("LatentUpscaleBy", samples=start, upscale_method=method, scale_by=1.0), start["samples"], atol=1e-6
    )
    scaled = samples("LatentUpscale", samples=start, upscale_method=method, width=80, height=64, crop="center")
    assert torch.allclose(scaled, start["samples"], atol=1e-6)


@pytest.mark.parametrize("method", LATENT_METHODS)
def test_the_frames_of_a_video_are_scaled_one_by_one(method: str) -> None:
    start = latent(2, 4, 3, 8, 10)
    scaled = samples("LatentUpscaleBy", samples=start, upscale_method=method, scale_by=1.5)
    for frame in range(3):
        one = {"samples": start["samples"][:, :, frame]}
        assert torch.equal(
            scaled[:, :, frame], samples("LatentUpscaleBy", samples=one, upscale_method=method, scale_by=1.5)
        )


@pytest.mark.parametrize(
    ("width", "height", "wanted"),
    [(0, 0, (8, 16)), (0, 128, (16, 32)), (64, 0, (8, 8)), (8, 8, (8, 8)), (256, 8, (8, 32)), (100, 100, (12, 12))],
)
def test_an_edge_of_0_keeps_proportions_and_none_is_below_64_pixels(
    width: int, height: int, wanted: tuple[int, int]
) -> None:
    start = latent(1, 4, 8, 16)
    scaled = samples("LatentUpscale", samples=start, upscale_method="area", width=width, height=height, crop="disabled")
    assert tuple(scaled.shape[-2:]) == wanted


def test_what_else_a_latent_carries_stays_with_it() -> None:
    start = latent(1, 4, 8, 8, noise_mask=torch.ones(1, 1, 64, 64), batch_index=[3])
    scaled = value("LatentUpscaleBy", samples=start, upscale_method="bislerp", scale_by=2.0)
    assert scaled["batch_index"] == [3]
    assert scaled["noise_mask"] is start["noise_mask"]
    assert start["samples"].shape == (1, 4, 8, 8)


def test_slerp_keeps_lengths_on_the_arc() -> None:
    start, end = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    for share in (0.0, 0.25, 0.5, 1.0):
        between = slerp(start, end, torch.tensor([[share]]))
        angle = torch.tensor(share * torch.pi / 2)
        assert torch.allclose(between, 3 * torch.stack([angle.cos(), angle.sin()])[None], atol=1e-6)


def test_slerp_of_parallel_opposite_and_empty_vectors_is_a_number() -> None:
    one, none, half = torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2), torch.tensor([[0.5]])
    assert torch.equal(slerp(one, 2 * one, half), one)
    assert torch.allclose(slerp(one, -one, half), none)
    assert slerp(one, none, half).isfinite().all()
    assert torch.equal(slerp(none, none, half), none)


def test_latents_of_one_length_keep_it_under_bislerp() -> None:
    start = latent(1, 4, 6, 6)["samples"]
    start = start / start.norm(dim=1, keepdim=True)
    for width, height in ((12, 9), (3, 4), (1, 1), (6, 17)):
        assert torch.allclose(bislerp(start, width, height).norm(dim=1), torch.ones(1, height, width), atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 6, 8), (2, 4, 3, 6, 8)])
def test_turns_and_mirrors_lead_back(shape: tuple[int, ...]) -> None:
    start = latent(*shape)
    turned = start
    for _ in range(4):
        turned = value("LatentRotate", samples=turned, rotation="90 degrees")
    assert torch.equal(turned["samples"], start["samples"])
    assert torch.equal(samples("LatentRotate", samples=start, rotation="none"), start["samples"])
    for method in ("x-axis: vertically", "y-axis: horizontally"):
        twice = value("LatentFlip", samples=value("LatentFlip", samples=start, flip_method=method), flip_method=method)
        assert torch.equal(twice["samples"], start["samples"])


def test_a_part_of_a_latent_is_moved_inside() -> None:
    start = latent(1, 4, 16, 20)
    part = samples("LatentCrop", samples=start, width=64, height=64, x=16384, y=16384)
    assert torch.equal(part, start["samples"][..., 8:, 12:])
    part = samples("LatentCrop", samples=start, width=512, height=64, x=32, y=8)
    assert torch.equal(part, start["samples"][..., 1:9, 4:])


@pytest.mark.parametrize("dim", ["x", "y", "t"])
def test_what_is_joined_can_be_cut_again(dim: str) -> None:
    one, other = latent(2, 4, 3, 6, 8), latent(1, 4, 3, 6, 8, seed=1)
    size = one["samples"].shape[AXES[dim]]
    joined, turned = (value("LatentConcat", samples1=one, samples2=other, dim=d) for d in (dim, f"-{dim}"))
    assert torch.equal(samples("LatentCut", samples=joined, dim=dim, index=0, amount=size), one["samples"])
    assert torch.equal(samples("LatentCut", samples=turned, dim=dim, index=-size, amount=99), one["samples"])
    second = samples("LatentCut", samples=joined, dim=dim, index=size, amount=size)
    assert torch.equal(second, other["samples"].expand_as(second))


def test_a_cut_stays_inside() -> None:
    start = latent(1, 4, 6, 8)
    assert torch.equal(samples("LatentCut", samples=start, dim="x", index=99, amount=3), start["samples"][..., 7:])
    assert torch.equal(samples("LatentCut", samples=start, dim="y", index=-99, amount=2), start["samples"][:, :, :2])


def test_latents_that_do_not_fit_are_not_joined() -> None:
    with pytest.raises(UnfitInput, match="do not fit together along x"):
        value("LatentConcat", samples1=latent(1, 4, 6, 8), samples2=latent(1, 4, 7, 8), dim="x")


@pytest.mark.parametrize("name", ["LatentAdd", "LatentSubtract", "LatentInterpolate", "LatentBlend"])
def test_the_first_latents_tell_size_and_batch(name: str) -> None:
    more = {"LatentInterpolate": {"ratio": 0.5}, "LatentBlend": {"blend_factor": 0.5}}.get(name, {})
    for first, second in (((3, 4, 6, 8), (2, 4, 12, 12)), ((1, 4, 6, 8), (2, 4, 6, 8))):
        assert samples(name, samples1=latent(*first), samples2=latent(*second, seed=1), **more).shape == first
    with pytest.raises(UnfitInput, match="not of one kind of model"):
        value(name, samples1=latent(1, 4, 6, 8), samples2=latent(1, 16, 6, 8), **more)


def test_adding_and_subtracting_undo_each_other() -> None:
    one, other = latent(2, 4, 6, 8), latent(2, 4, 6, 8, seed=1)
    back = samples("LatentSubtract", samples1=value("LatentAdd", samples1=one, samples2=other), samples2=other)
    assert torch.allclose(back, one["samples"], atol=1e-6)


@pytest.mark.parametrize("name", ["LatentInterpolate", "LatentBlend"])
def test_the_ends_of_a_mixture_are_its_parts(name: str) -> None:
    one, other = latent(1, 4, 6, 8), latent(1, 4, 6, 8, seed=1)
    word = "ratio" if name == "LatentInterpolate" else "blend_factor"
    assert torch.allclose(samples(name, samples1=one, samples2=other, **{word: 1.0}), one["samples"], atol=1e-6)
    assert torch.allclose(samples(name, samples1=one, samples2=other, **{word: 0.0}), other["samples"], atol=1e-6)


def test_an_empty_latent_can_be_interpolated() -> None:
    empty = {"samples": torch.zeros(1, 4, 6, 8)}
    assert torch.equal(samples("LatentInterpolate", samples1=empty, samples2=empty, ratio=0.5), empty["samples"])


def test_a_sound_can_be_multiplied_and_not_scaled() -> None:
    sound = latent(1, 64, 100)
    assert torch.equal(samples("LatentMultiply", samples=sound, multiplier=-2.0), sound["samples"] * -2)
    with pytest.raises(UnfitInput, match="no height and width"):
        value("LatentUpscaleBy", samples=sound, upscale_method="area", scale_by=2.0)


def test_a_latent_out_of_a_batch_keeps_its_noise_and_mask() -> None:
    masks = torch.arange(4.0)[:, None, None, None].expand(4, 1, 48, 64)
    start = latent(4, 4, 6, 8, noise_mask=masks)
    taken = value("LatentFromBatch", samples=start, batch_index=2, length=5)
    assert torch.equal(taken["samples"], start["samples"][2:])
    assert taken["batch_index"] == [2, 3]
    assert taken["noise_mask"][:, 0, 0, 0].tolist() == [2, 3]
    again = value("LatentFromBatch", samples=taken, batch_index=63, length=1)
    assert again["batch_index"] == [3]
    shared = value("LatentFromBatch", samples={**start, "noise_mask": masks[:1]}, batch_index=3, length=1)
    assert torch.equal(shared["noise_mask"], masks[:1])


def test_repeated_latents_get_noise_of_their_own() -> None:
    start = latent(2, 4, 6, 8, batch_index=[5, 7], noise_mask=torch.arange(2.0)[:, None, None].expand(2, 48, 64))
    more = value("RepeatLatentBatch", samples=start, amount=3)
    assert torch.equal(more["samples"], torch.cat([start["samples"]] * 3))
    assert more["batch_index"] == [5, 7, 8, 10, 11, 13]
    assert more["noise_mask"][:, 0, 0].tolist() == [0, 1, 0, 1, 0, 1]
    assert "batch_index" not in value("RepeatLatentBatch", samples=latent(2, 4, 6, 8), amount=2)


def test_joined_batches_keep_what_noise_each_latent_has() -> None:
    joined = value("LatentBatch", samples1=latent(2, 4, 6, 8), samples2=latent(1, 4, 12, 12, batch_index=[9]))
    assert joined["samples"].shape == (3, 4, 6, 8)
    assert joined["batch_index"] == [0, 1, 9]


def test_seeds_of_a_batch_can_be_fixed_and_set_free() -> None:
    fixed = value("LatentBatchSeedBehavior", samples=latent(3, 4, 6, 8, batch_index=[4, 5, 6]), seed_behavior="fixed")
    assert fixed["batch_index"] == [4, 4, 4]
    assert "batch_index" not in value("LatentBatchSeedBehavior", samples=fixed, seed_behavior="random")


def test_latents_are_rebatched_by_size_with_their_masks_and_noise() -> None:
    masked = latent(1, 4, 6, 8, seed=1, noise_mask=torch.zeros(1, 6, 8))
    given = [latent(3, 4, 6, 8), masked, latent(2, 4, 4, 4, seed=2)]
    batches = value("RebatchLatents", latents=given, batch_size=[2])
    assert [each["samples"].shape[0] for each in batches] == [2, 2, 2]
    assert [each["batch_index"] for each in batches] == [[0, 1], [2, 3], [4, 5]]
    assert torch.equal(batches[1]["samples"][1:], masked["samples"])
    assert batches[1]["noise_mask"].shape == (2, 48, 64)
    assert batches[1]["noise_mask"].mean(dim=(1, 2)).tolist() == [1, 0]
    assert "noise_mask" not in batches[0]


def test_a_batch_with_too_few_draws_of_noise_is_refused() -> None:
    with pytest.raises(UnfitInput, match="3 latents has 1 draws"):
        value("LatentFromBatch", samples=latent(3, 4, 6, 8, batch_index=[0]), batch_index=0, length=1)


def test_a_noise_mask_gets_a_channel() -> None:
    start = latent(1, 4, 6, 8)
    for shape in ((48, 64), (2, 48, 64), (2, 1, 48, 64)):
        masked = value("SetLatentNoiseMask", samples=start, mask=torch.ones(shape))
        assert masked["noise_mask"].shape == (1 if len(shape) == 2 else 2, 1, 48, 64)
    assert "noise_mask" not in start


@pytest.mark.parametrize(("x", "y", "feather"), [(0, 0, 0), (200, 0, 16), (0, 16384, 64), (24, 16, 64)])
def test_a_composite_changes_only_what_lies_below(x: int, y: int, feather: int) -> None:
    below, above = latent(2, 4, 6, 8), {"samples": torch.full((1, 4, 3, 3), 9.0)}
    result = samples("LatentComposite", samples_to=below, samples_from=above, x=x, y=y, feather=feather)
    inside = torch.zeros(6, 8, dtype=torch.bool)
    inside[y // 8 : y // 8 + 3, x // 8 : x // 8 + 3] = True
    assert torch.equal(result[..., ~inside], below["samples"][..., ~inside])
    if inside.any():
        assert (result[..., inside] != below["samples"][..., inside]).all()


def test_a_composite_fades_in_on_its_inner_sides() -> None:
    below, above = {"samples": torch.zeros(1, 4, 8, 8)}, {"samples": torch.ones(1, 4, 8, 4)}
    row = samples("LatentComposite", samples_to=below, samples_from=above, x=16, y=0, feather=16)[0, 0, 3]
    assert row.tolist() == [0, 0, 0.5, 1, 1, 0.5, 0, 0]


def test_masked_composites_stretch_the_mask_and_repeat_batches() -> None:
    below, above = latent(3, 4, 6, 8), latent(2, 4, 12, 16, seed=1)
    mask = torch.zeros(1, 4, 4)
    mask[..., 2:] = 1
    given = {"destination": below, "source": above, "x": 0, "y": 0, "resize_source": True, "mask": mask}
    result = samples("LatentCompositeMasked", **given)
    assert torch.equal(result[..., :2], below["samples"][..., :2])
    fitted = samples("LatentCompositeMasked", **{**given, "mask": None})
    assert torch.allclose(result[..., 6:], fitted[..., 6:])
    assert torch.equal(fitted[2], fitted[2])
    assert torch.allclose(fitted[0], fitted[2])


def test_latents_of_two_kinds_of_model_are_not_composed() -> None:
    pair = {"destination": latent(1, 4, 6, 8), "source": latent(1, 16, 6, 8)}
    with pytest.raises(UnfitInput, match="not of one kind of model"):
        value("LatentCompositeMasked", **pair, x=0, y=0, resize_source=False)


def test_tone_mapping_shortens_vectors_and_keeps_their_directions() -> None:
    start = latent(2, 4, 8, 8)
    operation = value("LatentOperationTonemapReinhard", multiplier=1.0)
    mapped = samples("LatentApplyOperation", samples=start, operation=operation)
    lengths, before = mapped.norm(dim=1), start["samples"].norm(dim=1)
    assert torch.allclose(mapped / lengths[:, None], start["samples"] / before[:, None], atol=1e-5)
    assert (lengths < before).all()
    top = before.mean(dim=(1, 2)) + 3 * before.std(dim=(1, 2))
    assert torch.allclose(lengths, before / (1 + before / top[:, None, None]), atol=1e-5)


def test_tone_mapping_to_nothing_gives_nothing() -> None:
    operation = value("LatentOperationTonemapReinhard", multiplier=0.0)
    assert operation(latent=latent(1, 4, 8, 8)["samples"]).count_nonzero() == 0


def test_sharpening_by_nothing_changes_nothing_and_more_makes_edges_steeper() -> None:
    start = latent(1, 4, 8, 8)["samples"]
    still = value("LatentOperationSharpen", sharpen_radius=9, sigma=1.0, alpha=0.0)
    assert torch.allclose(still(latent=start), start, atol=1e-6)
    sharp = value("LatentOperationSharpen", sharpen_radius=3, sigma=1.0, alpha=0.5)(latent=start)
    assert sharp.diff(dim=-1).abs().mean() > start.diff(dim=-1).abs().mean()


def test_an_operation_in_guidance_works_on_what_the_prompt_changes() -> None:
    cpu = Devices(device=torch.device("cpu"), half=None)
    model, _, _ = ModelLibrary(ModelFolders(), cpu).checkpoint("limner-demo.safetensors")
    changed = value("LatentApplyOperationCFG", model=model, operation=lambda latent: latent * 3)
    assert not model.model_options.get("sampler_pre_cfg_function")
    [hook] = changed.model_options["sampler_pre_cfg_function"]
    positive, negative = torch.full((1, 4, 2, 2), 5.0), torch.full((1, 4, 2, 2), 1.0)
    joined = hook({"conds_out": [positive, negative]})
    assert torch.equal(joined[0], torch.full((1, 4, 2, 2), 13.0))
    assert joined[1] is negative
    [alone] = hook({"conds_out": [positive]})
    assert torch.equal(alone, 3 * positive)


@pytest.mark.parametrize("shape", [(0, 4, 6, 8), (1, 4, 0, 8), (4, 6)])
def test_what_is_no_latent_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnfitInput, match="latents are"):
        value("LatentMultiply", samples={"samples": torch.zeros(shape)}, multiplier=1.0)


def test_negative_places_are_refused() -> None:
    start = latent(1, 4, 16, 16)
    with pytest.raises(UnfitInput, match="x is -8"):
        value("LatentCrop", samples=start, width=64, height=64, x=-8, y=0)
    with pytest.raises(UnfitInput, match="y is -8"):
        value("LatentComposite", samples_to=start, samples_from=start, x=0, y=-8, feather=0)
    with pytest.raises(UnfitInput, match="x is -1"):
        value("LatentCompositeMasked", destination=start, source=start, x=-8, y=0, resize_source=False)
    with pytest.raises(UnfitInput, match="length is -1"):
        value("LatentFromBatch", samples=start, batch_index=0, length=-1)
