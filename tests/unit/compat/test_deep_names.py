"""Every name that packs need is there; what Limner has nothing for says so once it is used."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from limner.errors import UnfitInput

LIST = Path(__file__).parents[2] / "data" / "pack_imports.json"
"""Modules that packs import at module level, and names that at least two packs use, or one at module level:
`[packs, packs at module level]` each, counted over 22 packs. Names that ComfyUI 0.3.64 has not are left out."""

MODULES: dict[str, dict[str, list[int]]] = json.loads(LIST.read_text())["modules"]

NOT_THERE = {
    ("comfy.model_detection", "convert_config"): "a table of another library's layout, of two packs' own loaders",
    ("comfy.model_detection", "unet_config_from_diffusers_unet"): "Limner reads diffusers' layout itself",
}
"""None of them is needed while a pack is imported."""


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_all_names_that_packs_need(module: str) -> None:
    imported = importlib.import_module(module)
    missing = {name for name in MODULES[module] if not hasattr(imported, name)}
    assert missing == {name for where, name in NOT_THERE if where == module}
    assert not [name for name in missing if MODULES[module][name][1]]


@pytest.mark.usefixtures("loaded")
def test_a_missing_name_is_told() -> None:
    import comfy.model_detection

    with pytest.raises(AttributeError, match=r"stand-in for comfy\.model_detection has no convert_config"):
        comfy.model_detection.convert_config({})


@pytest.mark.usefixtures("loaded")
def test_what_limner_has_nothing_for_raises_once_it_is_used() -> None:
    from comfy.cldm.cldm import ControlNet
    from comfy.ldm.modules.attention import BasicTransformerBlock
    from comfy.ldm.modules.diffusionmodules.openaimodel import forward_timestep_embed

    class Mine(ControlNet):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(image_size=32)

    with pytest.raises(UnfitInput, match=r"no comfy\.cldm\.cldm\.ControlNet, which Mine was made with"):
        Mine()
    with pytest.raises(UnfitInput, match=r"no comfy\.ldm\.modules\.attention\.BasicTransformerBlock"):
        BasicTransformerBlock(64, 8, 8)
    with pytest.raises(UnfitInput, match=r"no comfy\.ldm\.modules\.diffusionmodules\.openaimodel\.forward_timestep"):
        forward_timestep_embed(None)
    assert not isinstance(nn.Linear(1, 1), ControlNet)


@pytest.mark.usefixtures("loaded")
def test_layers_are_torch_s_and_change_precision_where_told() -> None:
    import comfy.ops

    for name, x, *sizes in [
        ("Linear", torch.rand(2, 4), 4, 3),
        ("Conv2d", torch.rand(1, 4, 5, 5), 4, 3, 3),
        ("Conv1d", torch.rand(1, 4, 5), 4, 3, 3),
        ("GroupNorm", torch.rand(1, 4, 5), 2, 4),
        ("LayerNorm", torch.rand(2, 4), 4),
        ("ConvTranspose2d", torch.rand(1, 4, 5, 5), 4, 3, 3),
        ("Embedding", torch.tensor([1, 2]), 4, 3),
    ]:
        plain: Any = getattr(comfy.ops.disable_weight_init, name)(*sizes)
        layer: Any = getattr(comfy.ops.manual_cast, name)(*sizes, dtype=torch.bfloat16)
        assert isinstance(layer, getattr(nn, name))
        for weight in layer.parameters():  # which are as they lay in memory: nothing draws them
            weight.detach().copy_(torch.rand(weight.shape))
        plain.load_state_dict({key: each.float() for key, each in layer.state_dict().items()})
        made = layer(x) if name != "Embedding" else layer(x, out_dtype=torch.float32)
        assert made.dtype == torch.float32
        assert torch.allclose(made, plain(x), atol=1e-6), name
    assert comfy.ops.pick_operations(torch.float16, torch.float32) is comfy.ops.manual_cast
    assert comfy.ops.pick_operations(torch.float32, None) is comfy.ops.disable_weight_init
    assert comfy.ops.disable_weight_init.conv_nd(1, 4, 3, 3).weight.shape == (3, 4, 3)


@pytest.mark.usefixtures("loaded")
def test_attention_is_limners_own_in_every_form_of_its_inputs() -> None:
    from comfy.ldm.modules.attention import CrossAttention, attention_pytorch, optimized_attention

    q, k, v = (torch.rand(2, 5, 12, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    heads = [each.reshape(2, 5, 3, 4).transpose(1, 2) for each in (q, k, v)]
    wanted = nn.functional.scaled_dot_product_attention(*heads)
    made = optimized_attention(q, k, v, 3)
    assert torch.allclose(made, wanted.transpose(1, 2).reshape(2, 5, 12), atol=1e-6)
    assert torch.allclose(attention_pytorch(*heads, 3, skip_reshape=True), made, atol=1e-6)
    split = optimized_attention(*heads, heads=3, skip_reshape=True, skip_output_reshape=True)
    assert torch.allclose(split, wanted, atol=1e-6)
    told = {"optimized_attention_override": lambda own, *a, **kw: own(*a, **kw) * 2}
    assert torch.allclose(optimized_attention(q, k, v, 3, transformer_options=told), made * 2, atol=1e-6)
    assert torch.allclose(attention_pytorch.__wrapped__(q, k, v, 3), made)
    assert CrossAttention(12, 6, heads=3, dim_head=4)(q, torch.rand(2, 7, 6)).shape == (2, 5, 12)


@pytest.mark.usefixtures("loaded")
def test_latent_formats_are_limners_own() -> None:
    import comfy.latent_formats

    from limner.diffusion import formats

    assert comfy.latent_formats.SD15() is formats.SD15
    assert isinstance(formats.SDXL, comfy.latent_formats.SDXL)
    assert not isinstance(formats.SDXL, comfy.latent_formats.SD15)
    assert isinstance(formats.FLUX, comfy.latent_formats.LatentFormat)
    x = torch.rand(1, 16, 2, 2)
    space = comfy.latent_formats.Flux()
    assert torch.allclose(space.process_out(space.process_in(x)), x, atol=1e-6)
    assert len(space.latent_rgb_factors) == space.latent_channels == 16


@pytest.mark.usefixtures("loaded")
def test_rounding_by_chance_keeps_the_mean() -> None:
    from comfy.float import stochastic_rounding

    value = torch.full((20000,), 1.03)
    rounded = stochastic_rounding(value, torch.float8_e4m3fn, seed=1).float()
    assert set(rounded.tolist()) == {1.0, 1.125}
    assert rounded.mean() == pytest.approx(1.03, abs=3e-3)
    assert stochastic_rounding(torch.tensor([1e6]), torch.float8_e4m3fn).float().item() == 448
    assert stochastic_rounding(value, torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.usefixtures("loaded")
def test_the_small_parts_of_networks_compute() -> None:
    from comfy.ldm.flux.math import apply_rope, rope
    from comfy.ldm.modules.diffusionmodules.mmdit import RMSNorm
    from comfy.ldm.modules.diffusionmodules.util import timestep_embedding, zero_module
    from comfy.ldm.modules.distributions.distributions import DiagonalGaussianDistribution
    from comfy.ldm.util import default, exists
    from comfy.model_base import Timestep, convert_tensor, sdxl_pooled
    from comfy.taesd.taesd import Block, Clamp, conv

    turned, _ = apply_rope(*[torch.ones(1, 2, 3, 4)] * 2, rope(torch.arange(3)[None, None], 4, 10000))
    assert torch.allclose(turned.norm(dim=-1), torch.full((1, 2, 3), 2.0))
    assert torch.equal(turned[:, :, 0], torch.ones(1, 2, 4))
    assert torch.allclose(RMSNorm(4, elementwise_affine=True)(torch.full((1, 4), 3.0)), torch.ones(1, 4))
    assert torch.equal(timestep_embedding(torch.tensor([5.0]), 8), Timestep(8)(torch.tensor([5.0])))
    assert timestep_embedding(torch.tensor([5.0]), 3, repeat_only=True).tolist() == [[5, 5, 5]]
    assert not zero_module(nn.Linear(2, 2)).weight.any()
    told = DiagonalGaussianDistribution(torch.cat([torch.ones(1, 2, 1, 1), torch.full((1, 2, 1, 1), -60.0)], dim=1))
    assert torch.allclose(told.sample(), told.mode(), atol=1e-5)
    assert (exists(None), default(None, lambda: 3), default(0, 4)) == (False, 3, 0)
    assert sdxl_pooled({"pooled_output": torch.ones(1, 1280)}, None).shape == (1, 1280)
    with pytest.raises(UnfitInput, match="no pooled_output"):
        sdxl_pooled({}, None)
    assert convert_tensor(torch.tensor([1]), torch.float16, "cpu").dtype == torch.int64
    assert convert_tensor(torch.tensor([1.0]), torch.float16, "cpu").dtype == torch.float16
    assert Clamp()(Block(4, 8)(conv(3, 4)(torch.rand(1, 3, 5, 5)))).shape == (1, 8, 5, 5)


@pytest.mark.usefixtures("loaded")
def test_names_of_a_unet_s_parts_are_those_of_both_layouts() -> None:
    from comfy import utils

    assert utils.UNET_MAP_RESNET["in_layers.2.weight"] == "conv1.weight"
    assert ("time_embed.2.bias", "time_embedding.linear_2.bias") in utils.UNET_MAP_BASIC
    assert "attn2.to_k.weight" in utils.TRANSFORMER_BLOCKS
    assert "attn2.to_k.bias" not in utils.TRANSFORMER_BLOCKS
    assert "proj_in.weight" in utils.UNET_MAP_ATTENTIONS


@pytest.mark.usefixtures("loaded")
def test_conditionings_of_a_pack_are_put_together_as_a_walk_does() -> None:
    import comfy.conds
    import comfy.samplers

    text = comfy.conds.CONDCrossAttn(torch.ones(1, 7, 4))
    cond = {"model_conds": {"c_crossattn": text}, "area": (4, 4, 2, 2), "strength": 0.5}
    x, sigma = torch.zeros(2, 4, 8, 8), torch.ones(2)
    asked = comfy.samplers.get_area_and_mult(cond, x, sigma)
    assert asked.input_x.shape == (2, 4, 4, 4)
    assert asked.area == (4, 4, 2, 2)
    assert asked.mult.max() == 0.5
    assert comfy.samplers.get_area_and_mult({**cond, "timestep_start": 0.5}, x, sigma) is None
    longer = comfy.samplers.get_area_and_mult(
        {**cond, "model_conds": {"c_crossattn": comfy.conds.CONDCrossAttn(torch.ones(1, 14, 4))}}, x, sigma
    )
    assert comfy.samplers.can_concat_cond(asked, longer)
    joined = comfy.samplers.cond_cat([asked.conditioning, longer.conditioning])
    assert joined["c_crossattn"].shape == (4, 14, 4)
    assert text.process_cond(3).cond.shape == (3, 7, 4)
    assert not comfy.conds.CONDRegular(torch.ones(1, 2)).can_concat(comfy.conds.CONDRegular(torch.ones(1, 3)))
