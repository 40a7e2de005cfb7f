from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from limner.errors import UnfitInput
from limner.models import unet
from limner.models.attention import attention, sliced


def sd15_like() -> UNet2DConditionModel:
    """Attention on two of three levels, projections by convolution: 9 blocks down, 1, 9 up."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(64, 64, 128),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
    ).eval()


def sdxl_like() -> UNet2DConditionModel:
    """No attention at the top, several layers below it, linear projections, a vector beside the text."""
    torch.manual_seed(1)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(64, 64, 128),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3),
        cross_attention_dim=32,
        attention_head_dim=(1, 1, 2),
        use_linear_projection=True,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=96,
    ).eval()


SD15, SDXL = sd15_like(), sdxl_like()


def asked(height: int = 8, width: int = 8, batch: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(3)
    x, text, y = (
        torch.randn(shape, generator=drawn) for shape in ((batch, 4, height, width), (batch, 7, 32), (batch, 96))
    )
    return x, torch.full((batch,), 501.5), text, y


def walk(network: Any = SD15, given: tuple[Tensor, ...] | None = None, **facts: Any) -> Tensor:
    x, t, text, y = given or asked()
    with torch.inference_mode():
        return unet.run(network, x, t, text, y=y if network is SDXL else None, **facts)


def patched(**patches: Any) -> dict[str, Any]:
    return {"patches": {name: [each] for name, each in patches.items()}}


@pytest.mark.parametrize("size", [(8, 8), (16, 4), (9, 13), (5, 7), (1, 1)])
@pytest.mark.parametrize("network", [SD15, SDXL], ids=["sd15", "sdxl"])
def test_without_hooks_the_walk_answers_as_the_network_itself(network: Any, size: tuple[int, int]) -> None:
    x, t, text, y = given = asked(*size)
    with torch.inference_mode():
        labels = y if network is SDXL else None
        own = network(x, t, encoder_hidden_states=text, class_labels=labels, return_dict=False)[0]
    assert torch.equal(walk(network, given), own)


def test_blocks_bear_the_names_of_the_original_layout() -> None:
    seen: list[tuple[str, int]] = []

    def down(h: Tensor, options: Any) -> Tensor:
        seen.append(options["block"])
        return h

    def up(h: Tensor, skip: Tensor, options: Any) -> tuple[Tensor, Tensor]:
        seen.append(options["block"])
        return h, skip

    walk(transformer_options=patched(input_block_patch=down, output_block_patch=up))
    assert seen == [("input", n) for n in range(9)] + [("output", n) for n in range(9)]


def test_attention_hooks_are_told_where_they_are() -> None:
    seen: list[Any] = []

    def look(n: Tensor, options: Any) -> Tensor:
        seen.append((*options["block"], options["block_index"], options["transformer_index"]))
        assert options["n_heads"] * options["dim_head"] == n.shape[-1]
        assert options["original_shape"] == [2, 4, 8, 8]
        assert options["cond_or_uncond"] == [0, 1]
        return n

    given = patched(attn2_output_patch=look) | {"cond_or_uncond": [0, 1]}
    walk(SDXL, transformer_options=given)
    assert seen[:4] == [("input", 4, 0, 0), ("input", 4, 1, 0), ("input", 5, 0, 1), ("input", 5, 1, 1)]
    assert [each for each in seen if each[0] == "middle"] == [("middle", 0, n, 4) for n in range(3)]
    assert seen[-1] == ("output", 5, 1, 10)
    assert set(given) == {"patches", "cond_or_uncond"}, "the caller's options stay as they are"


def test_hooks_before_an_attention_change_what_it_sees() -> None:
    """Text whose values are 0 adds only what the projection's bias is; so does text of zeros with no bias before it."""
    x, t, text, _ = asked()

    def blank(n: Tensor, context: Tensor, value: Tensor, options: Any) -> tuple[Tensor, Tensor, Tensor]:
        assert context is text
        return n, context, torch.zeros_like(value)

    hooked = walk(given=(x, t, text, text), transformer_options=patched(attn2_patch=blank))
    assert torch.allclose(hooked, walk(given=(x, t, torch.zeros_like(text), text)), atol=1e-6)
    assert not torch.allclose(hooked, walk(given=(x, t, text, text)), atol=1e-4)


def test_a_hook_before_the_look_at_itself_gets_that_as_context() -> None:
    def same(n: Tensor, context: Tensor, value: Tensor, options: Any) -> tuple[Tensor, Tensor, Tensor]:
        assert n is context is value
        return n, context, value

    assert torch.equal(walk(transformer_options=patched(attn1_patch=same)), walk())


@pytest.mark.parametrize("place", [("input", 1), ("input", 1, 0)])
@pytest.mark.parametrize("name", ["attn1", "attn2"])
def test_an_attention_can_be_replaced_by_block_and_by_layer(name: str, place: Any) -> None:
    called: list[Any] = []

    def own(q: Tensor, k: Tensor, v: Tensor, options: Any) -> Tensor:
        called.append((*options["block"], options["block_index"]))
        return attention(q, k, v, options["n_heads"])

    answer = walk(transformer_options={"patches_replace": {name: {place: own}}})
    assert called == [("input", 1, 0)]
    assert torch.equal(answer, walk())


def test_a_replacement_for_a_layer_goes_before_one_for_its_block() -> None:
    def nothing(q: Tensor, k: Tensor, v: Tensor, options: Any) -> Tensor:
        return torch.zeros_like(q)

    def same(q: Tensor, k: Tensor, v: Tensor, options: Any) -> Tensor:
        return attention(q, k, v, options["n_heads"])

    replaced = {"attn1": {("middle", 0): nothing, **{("middle", 0, layer): same for layer in range(3)}}}
    assert torch.equal(walk(SDXL, transformer_options={"patches_replace": replaced}), walk(SDXL))


def test_several_hooks_of_one_kind_run_one_after_the_other() -> None:
    double = {"patches": {"middle_patch": [lambda x, _: x * 2, lambda x, _: x / 2]}}
    assert torch.equal(walk(transformer_options=double), walk())
    assert not torch.allclose(walk(transformer_options=patched(middle_patch=lambda x, _: x * 2)), walk(), atol=1e-3)


def test_what_comes_after_the_skip_does_not_reach_the_way_up() -> None:
    def wipe(h: Tensor, options: Any) -> Tensor:
        return h * 0 if options["block"] == ("input", 8) else h

    before = walk(transformer_options=patched(input_block_patch=wipe))
    after = walk(transformer_options=patched(input_block_patch_after_skip=wipe))
    assert not torch.allclose(before, after, atol=1e-4)

    def and_its_skip(h: Tensor, skip: Tensor, options: Any) -> tuple[Tensor, Tensor]:
        return h, skip * 0 if options["block"] == ("output", 0) else skip

    assert torch.equal(before, walk(transformer_options=patched(
        input_block_patch_after_skip=wipe, output_block_patch=and_its_skip)))  # fmt: skip


def diffusers_residuals() -> tuple[list[Tensor], Tensor]:
    """In diffusers' order: as the skips are made."""
    x, t, text, _ = asked()
    shapes: list[torch.Size] = []

    def shape(h: Tensor, skip: Tensor, options: Any) -> tuple[Tensor, Tensor]:
        shapes.insert(0, skip.shape)
        return h, skip

    walk(given=(x, t, text, text), transformer_options=patched(output_block_patch=shape))
    drawn = torch.Generator().manual_seed(5)
    return [torch.randn(each, generator=drawn) for each in shapes], torch.randn(2, 128, 2, 2, generator=drawn)


def test_residuals_of_a_control_network_land_where_diffusers_adds_them() -> None:
    skips, middle = diffusers_residuals()
    x, t, text, _ = asked()
    with torch.inference_mode():
        own = SD15(
            x, t, encoder_hidden_states=text, down_block_additional_residuals=skips,
            mid_block_additional_residual=middle, return_dict=False,
        )[0]  # fmt: skip
    control = {"output": list(skips), "middle": [middle]}
    assert torch.allclose(walk(control=control), own, atol=1e-5)
    assert len(control["output"]) == len(skips), "the caller's residuals are still there"


def test_residuals_on_the_way_down_are_taken_from_the_end() -> None:
    first = torch.ones(2, 64, 8, 8)
    moved = walk(control={"input": [None, first]})

    def add(h: Tensor, options: Any) -> Tensor:
        return h + 1 if options["block"] == ("input", 0) else h

    assert torch.equal(moved, walk(transformer_options=patched(input_block_patch=add)))


def test_residuals_that_are_not_there_add_nothing() -> None:
    assert torch.equal(walk(control={"input": [], "middle": [None], "output": [None] * 12}), walk())


def test_what_does_not_fit_the_network_is_told() -> None:
    with pytest.raises(UnfitInput, match=r"a control network gave \(2, 9, 8, 8\) where the model has \(2, 128, 2, 2\)"):
        walk(control={"output": [torch.zeros(2, 9, 8, 8)] * 9})
    x, t, text, y = asked()
    with pytest.raises(UnfitInput, match="takes a vector beside the text"):
        unet.run(SDXL, x, t, text)
    with pytest.raises(UnfitInput, match=r"has the shape \(2, 5\), this model takes \(2, 96\)"):
        unet.run(SDXL, x, t, text, y=y[:, :5])


@pytest.mark.parametrize("mask", [None, (5, 7), (2, 5, 7), (2, 1, 1, 7)])
@pytest.mark.parametrize("queries", [1, 2, 5, 9])
def test_sliced_attention_gives_what_whole_attention_does(mask: tuple[int, ...] | None, queries: int) -> None:
    drawn = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, tokens, 12, generator=drawn) for tokens in (5, 7, 7))
    bias = None if mask is None else torch.randn(mask, generator=drawn)
    whole = attention(q, k, v, 3, bias)
    scores = q.view(2, 5, 3, 4).transpose(1, 2) @ k.view(2, 7, 3, 4).permute(0, 2, 3, 1) / 2
    if bias is not None:
        scores = scores + (bias if bias.ndim != 3 else bias[:, None])
    by_hand = (scores.softmax(-1) @ v.view(2, 7, 3, 4).transpose(1, 2)).transpose(1, 2).reshape(2, 5, 12)
    assert torch.allclose(whole, by_hand, atol=1e-6)
    with sliced(queries):
        assert torch.allclose(attention(q, k, v, 3, bias), whole, atol=1e-6)


def test_a_pack_may_put_its_own_attention_in_place_of_all() -> None:
    asked_for: list[int] = []

    def own(function: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Any:
        asked_for.append(heads)
        return function(q, k, v, heads, mask=mask)

    assert torch.equal(walk(transformer_options={"optimized_attention_override": own}), walk())
    assert asked_for == [4] * 22
