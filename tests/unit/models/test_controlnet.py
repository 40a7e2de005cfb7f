from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from limner.diffusion import formats
from limner.diffusion.denoiser import Epsilon
from limner.diffusion.levels import scaled_linear
from limner.errors import ModelFileError, UnfitInput
from limner.models import unet
from limner.models.controlnet.chain import Control, StrengthType, fitted_hint
from limner.models.controlnet.load import load_controlnet
from limner.models.device import Devices
from limner.models.families.sd15 import Sd15
from limner.models.model import BaseModel, Model
from limner.models.residency import use
from limner.models.unet_layout import key_map
from tests.support.tiny.controlnet import (
    DEEPER,
    SD15,
    SDXL,
    UNION,
    adapter,
    controlnet,
    save_adapter,
    save_control_lora,
    save_controlnet,
)

DEVICES = Devices(device=torch.device("cpu"), half=None)
LEVELS = scaled_linear(0.00085, 0.012, steps=1000)
SIZES = {"SD1.5": SD15, "SDXL": SDXL}


def base(size: dict[str, Any] = SD15) -> BaseModel:
    return _base(next(number for number, each in enumerate(KNOWN) if each is size))


KNOWN = (SD15, DEEPER, SDXL)


@cache
def _base(number: int) -> BaseModel:
    size = KNOWN[number]
    torch.manual_seed(1)
    ups = tuple(kind.replace("Down", "Up", 1) for kind in reversed(size["down_block_types"]))
    own = {key: value for key, value in size.items() if key != "conditioning_embedding_out_channels"}
    config = {**own, "up_block_types": tuple(each.replace("CrossAttnDown", "CrossAttnUp") for each in ups)}
    network = UNet2DConditionModel(**config, sample_size=None).eval().requires_grad_(False)
    return BaseModel(
        name="m.safetensors",
        architecture=Sd15(),
        diffusion_model=network,
        keys=key_map(network.state_dict(), network.config),
        model_sampling=Epsilon(LEVELS),
        latent_format=formats.SD15,
        device=DEVICES.device,
        dtype=torch.float32,
        context_width=size["cross_attention_dim"],
        in_channels=4,
        adm_channels=size.get("projection_class_embeddings_input_dim", 0),
    )


def asked(size: dict[str, Any] = SD15, batch: int = 2) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """x, its level, and what the network is given."""
    draw = torch.Generator().manual_seed(3)
    given = {"c_crossattn": torch.randn(batch, 7, size["cross_attention_dim"], generator=draw)}
    if "class_embed_type" in size:
        given["y"] = torch.randn(batch, size["projection_class_embeddings_input_dim"], generator=draw)
    return torch.randn(batch, 4, 8, 8, generator=draw), torch.full((batch,), 2.0), given


def hint(batch: int = 1, height: int = 64, width: int = 64) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(4))


def answer(control: Control, model: BaseModel, size: dict[str, Any] = SD15, *, number: int = 1) -> Any:
    x, level, given = asked(size)
    control.pre_run(model, LEVELS.at)
    try:
        with torch.inference_mode(), use(*control.get_models()):
            return control.get_control(x, level, given, number)
    finally:
        control.cleanup()


def theirs(network: Any, model: BaseModel, size: dict[str, Any], picture: Tensor, **more: Any) -> tuple[Any, Any]:
    """What diffusers' own forward gives: the residuals, and the time it was asked for."""
    x, level, given = asked(size)
    time = LEVELS.timestep(level)
    scaled = model.model_sampling.network_input(x, level.reshape(-1, 1, 1, 1))
    with torch.inference_mode():
        found = network(
            scaled, time, given["c_crossattn"], picture, class_labels=given.get("y"), return_dict=False, **more
        )
    return found, (scaled, time)


@pytest.mark.parametrize("layout", ["original", "diffusers", "bare"])
@pytest.mark.parametrize("family", SIZES)
def test_a_file_in_either_layout_gives_what_diffusers_gives(family: str, layout: str, tmp_path: Path) -> None:
    size, model = SIZES[family], base(SIZES[family])
    path = save_controlnet(
        tmp_path / "cn.safetensors",
        size,
        layout=layout.replace("bare", "original"),
        prefix="control_model." * (layout == "original"),
    )
    control = load_controlnet(path, DEVICES).set_cond_hint(hint(2), 0.7)
    (down, middle), _ = theirs(controlnet(size), model, size, hint(2), conditioning_scale=0.7)
    ours = answer(control, model, size)
    assert ours.keys() == {"middle", "output"}
    torch.testing.assert_close(ours["output"], list(down))
    torch.testing.assert_close(ours["middle"], [middle])


def test_the_original_layout_is_that_of_published_files(tmp_path: Path) -> None:
    network = controlnet(SD15)
    saved = load_file(save_controlnet(tmp_path / "cn.safetensors"))
    converted = convert_controlnet_checkpoint(saved, dict(network.config))
    assert converted.keys() == network.state_dict().keys()
    assert all(torch.equal(converted[key], weight) for key, weight in network.state_dict().items())


@pytest.mark.parametrize("family", SIZES)
def test_the_unet_uses_the_residuals_as_diffusers_does(family: str, tmp_path: Path) -> None:
    size, model = SIZES[family], base(SIZES[family])
    control = load_controlnet(save_controlnet(tmp_path / "cn.safetensors", size), DEVICES).set_cond_hint(hint(2))
    (down, middle), (scaled, time) = theirs(controlnet(size), model, size, hint(2))
    _, _, given = asked(size)
    with torch.inference_mode():
        wanted = model.diffusion_model(
            scaled,
            time,
            given["c_crossattn"],
            class_labels=given.get("y"),
            down_block_additional_residuals=tuple(down),
            mid_block_additional_residual=middle,
        ).sample
        ours = unet.run(
            model.diffusion_model,
            scaled,
            time,
            given["c_crossattn"],
            y=given.get("y"),
            control=answer(control, model, size),
        )
        plain = unet.run(model.diffusion_model, scaled, time, given["c_crossattn"], y=given.get("y"))
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)
    assert (ours - plain).abs().max() > 1e-2


def test_a_small_network_without_attention_looks_at_no_text(tmp_path: Path) -> None:
    small = {key: value for key, value in SDXL.items() if key not in ("cross_attention_dim", "attention_head_dim")}
    small |= {
        "down_block_types": ("DownBlock2D",) * 3,
        "mid_block_type": "UNetMidBlock2D",
        "use_linear_projection": False,
    }
    model = base(SDXL)
    for layout in ("original", "diffusers"):
        path = save_controlnet(tmp_path / f"{layout}.safetensors", small, layout=layout)
        (down, middle), _ = theirs(controlnet(small), model, SDXL, hint(2))
        ours = answer(load_controlnet(path, DEVICES).set_cond_hint(hint(2)), model, SDXL)
        torch.testing.assert_close(ours["output"], list(down))
        torch.testing.assert_close(ours["middle"], [middle])


def test_several_at_once_add_up(tmp_path: Path) -> None:
    model = base()
    net = load_controlnet(save_controlnet(tmp_path / "cn.safetensors"), DEVICES)
    first = net.copy().set_cond_hint(hint(), 0.5)
    second = net.copy().set_cond_hint(1 - hint(), 0.25)
    both = net.copy().set_cond_hint(1 - hint(), 0.25).set_previous_controlnet(first)
    one, other, sums = (answer(each, model) for each in (first, second, both))
    for place in ("output", "middle"):
        torch.testing.assert_close(sums[place], [a + b for a, b in zip(one[place], other[place], strict=True)])
    assert both.get_models() == [net.patcher, net.patcher]


def test_it_counts_in_its_part_of_the_way_alone(tmp_path: Path) -> None:
    model = base()
    net = load_controlnet(save_controlnet(tmp_path / "cn.safetensors"), DEVICES)
    at = {float(LEVELS.at(part)): part for part in (0.3, 0.6)}
    assert min(at) < 2.0
    early = net.copy().set_cond_hint(hint(), 1.0, (0.0, 0.3))
    late = net.copy().set_cond_hint(hint(), 1.0, (0.3, 1.0))
    assert answer(early, model) is None
    assert answer(late, model) is not None
    chained = early.copy().set_cond_hint(hint(), 1.0, (0.0, 0.3)).set_previous_controlnet(late)
    torch.testing.assert_close(answer(chained, model)["middle"], answer(late, model)["middle"])


def test_pictures_of_a_batch_go_with_their_items_in_every_conditioning(tmp_path: Path) -> None:
    model = base()
    net = load_controlnet(save_controlnet(tmp_path / "cn.safetensors"), DEVICES).set_cond_hint(hint(2))
    x, _, _ = asked()
    four = torch.cat([x, x])
    assert torch.equal(net.hint(four, 2, 3), torch.cat([hint(2), hint(2)]))
    assert torch.equal(net.hint(four, 1, 3), torch.cat([hint(2), hint(2)]))
    assert torch.equal(net.hint(x[:1], 1, 3), hint(2)[:1])
    one = load_controlnet(save_controlnet(tmp_path / "cn.safetensors"), DEVICES).set_cond_hint(hint(1))
    torch.testing.assert_close(one.hint(four, 2, 3), hint(1).repeat(4, 1, 1, 1))
    assert model.name


def test_a_picture_is_cut_to_the_latents_proportions_and_no_pixel_is_mixed() -> None:
    picture = torch.arange(12.0).reshape(1, 1, 2, 6)
    assert fitted_hint(picture, 2, 2).tolist() == [[[[2, 3], [8, 9]]]]
    assert fitted_hint(picture.movedim(-1, -2), 2, 2).tolist() == [[[[2, 8], [3, 9]]]]
    assert fitted_hint(picture, 6, 2) is picture
    assert set(fitted_hint(picture, 12, 4).flatten().tolist()) == set(picture.flatten().tolist())


def test_a_network_for_the_picture_as_a_whole_is_known_by_its_name(tmp_path: Path) -> None:
    model = base()
    whole = load_controlnet(save_controlnet(tmp_path / "control_v11e_sd15_shuffle.safetensors"), DEVICES)
    plain = load_controlnet(save_controlnet(tmp_path / "cn.safetensors"), DEVICES)
    pooled, local = (answer(each.set_cond_hint(hint()), model) for each in (whole, plain))
    for ours, theirs_ in zip(pooled["output"], local["output"], strict=True):
        torch.testing.assert_close(ours, theirs_.mean(dim=(2, 3), keepdim=True).expand_as(theirs_))


def test_strength_may_fall_towards_the_first_blocks(tmp_path: Path) -> None:
    model = base()
    net = load_controlnet(save_controlnet(tmp_path / "cn.safetensors"), DEVICES)
    full = answer(net.copy().set_cond_hint(hint()), model)
    soft = net.copy().set_cond_hint(hint(), 0.5)
    soft.strength_type = StrengthType.LINEAR_UP
    found = answer(soft, model)["output"]
    count = len(found)
    for number, (ours, whole) in enumerate(zip(found, full["output"], strict=True)):
        torch.testing.assert_close(ours, whole * 0.5 ** (count - number))


@pytest.mark.parametrize("kind", [0, 6])
def test_a_union_network_is_told_the_kind_of_picture(kind: int, tmp_path: Path) -> None:
    model = base(SDXL)
    path = save_controlnet(tmp_path / "union.safetensors", SDXL, layout="diffusers", union=True)
    control = load_controlnet(path, DEVICES).set_cond_hint(hint(2))
    control.set_extra_arg("control_type", [kind])
    told = torch.zeros(2, UNION["num_control_type"])
    told[:, kind] = 1
    (down, middle), _ = theirs(
        controlnet(SDXL, union=True),
        model,
        SDXL,
        [hint(2)],
        control_type=told,
        control_type_idx=[kind],  # type: ignore[arg-type]
    )
    ours = answer(control, model, SDXL)
    torch.testing.assert_close(ours["output"], list(down), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours["middle"], [middle], rtol=1e-4, atol=1e-5)
    control.set_extra_arg("control_type", [])
    untold = answer(control, model, SDXL)
    assert not torch.allclose(untold["middle"][0], ours["middle"][0])


@pytest.mark.parametrize(("kind", "size"), [("full_adapter", SD15), ("light_adapter", DEEPER)])
def test_an_adapter_adds_to_each_level_as_in_diffusers(kind: str, size: dict[str, Any], tmp_path: Path) -> None:
    control = load_controlnet(save_adapter(tmp_path / "t2i.safetensors", kind), DEVICES).set_cond_hint(hint(2), 0.8)
    check_adapter(control, base(size), size, [each * 0.8 for each in adapter(kind)(hint(2))])


def test_an_adapter_for_sdxl_adds_where_its_sizes_fit(tmp_path: Path) -> None:
    model = base(SDXL)
    control = load_controlnet(save_adapter(tmp_path / "t2i.safetensors", "full_adapter_xl"), DEVICES)
    check_adapter(control.set_cond_hint(hint(2)), model, SDXL, list(adapter("full_adapter_xl")(hint(2))))


def check_adapter(control: Control, model: BaseModel, size: dict[str, Any], features: list[Tensor]) -> None:
    x, level, given = asked(size)
    scaled, time = model.model_sampling.network_input(x, level.reshape(-1, 1, 1, 1)), LEVELS.timestep(level)
    residuals = answer(control, model, size)
    with torch.inference_mode():
        wanted = model.diffusion_model(
            scaled,
            time,
            given["c_crossattn"],
            class_labels=given.get("y"),
            down_intrablock_additional_residuals=[each.clone() for each in features],
        ).sample
        ours = unet.run(model.diffusion_model, scaled, time, given["c_crossattn"], y=given.get("y"), control=residuals)
        plain = unet.run(model.diffusion_model, scaled, time, given["c_crossattn"], y=given.get("y"))
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)
    assert (ours - plain).abs().max() > 1e-3


def test_an_adapter_in_its_own_layout_is_the_same(tmp_path: Path) -> None:
    own = {}
    for key, weight in adapter().state_dict().items():
        _, part, *rest = key.split(".")
        if part == "conv_in":
            own[f"conv_in.{rest[0]}"] = weight
        elif rest[1] == "in_conv":
            own[f"body.{2 * int(rest[0])}.in_conv.{rest[2]}"] = weight
        else:
            own[f"body.{2 * int(rest[0]) + int(rest[2])}.{rest[3]}.{rest[4]}"] = weight
    save_file(own, tmp_path / "own.safetensors")
    one = load_controlnet(tmp_path / "own.safetensors", DEVICES).set_cond_hint(hint())
    other = load_controlnet(save_adapter(tmp_path / "t2i.safetensors"), DEVICES).set_cond_hint(hint())
    torch.testing.assert_close(answer(one, base())["input"], answer(other, base())["input"])


def test_a_file_of_differences_adds_to_its_model(tmp_path: Path) -> None:
    model = base()
    whole = load_file(save_controlnet(tmp_path / "cn.safetensors"))
    shared = {key: f"diffusion_model.{key.removeprefix('control_model.')}" for key in whole}
    less = {
        key: weight - model.keys.gather(model.diffusion_model, shared[key]) if shared[key] in model.keys else weight
        for key, weight in whole.items()
    }
    assert sum(not torch.equal(less[key], whole[key]) for key in whole) > 50
    save_file({**less, "difference": torch.zeros(0)}, tmp_path / "diff.safetensors")
    one = load_controlnet(tmp_path / "diff.safetensors", DEVICES, Model(model)).set_cond_hint(hint())
    other = load_controlnet(tmp_path / "cn.safetensors", DEVICES).set_cond_hint(hint())
    torch.testing.assert_close(answer(one, model)["output"], answer(other, model)["output"], rtol=1e-4, atol=1e-4)
    with pytest.raises(ModelFileError, match="DiffControlNetLoader"):
        load_controlnet(tmp_path / "diff.safetensors", DEVICES)
    with pytest.raises(UnfitInput, match=r"diff.safetensors does not fit m.safetensors"):
        load_controlnet(tmp_path / "diff.safetensors", DEVICES, Model(base(SDXL)))


def summed(path: Path, model: BaseModel) -> dict[str, Tensor]:
    """The weights of a control network in the original layout, from a model's and what a file adds to them."""
    file = load_file(path)
    whole = {}
    for key in model.keys:
        name = key.removeprefix("diffusion_model.")
        if name.startswith(("input_blocks.", "middle_block.", "time_embed.", "label_emb.")):
            weight, module = model.keys.gather(model.diffusion_model, key), name.removesuffix(".weight")
            whole[name] = weight
            if f"{module}.up" in file and name.endswith(".weight"):
                product = file[f"{module}.up"].flatten(1) @ file[f"{module}.down"].flatten(1)
                whole[name] = weight + product.reshape(weight.shape)
    own = {key: each for key, each in file.items() if not key.endswith((".up", ".down")) and key != "lora_controlnet"}
    return whole | own


@pytest.mark.parametrize("family", SIZES)
def test_a_control_lora_is_the_model_s_own_weights_and_what_it_adds(family: str, tmp_path: Path) -> None:
    size, model = SIZES[family], base(SIZES[family])
    whole = summed(save_control_lora(tmp_path / "lora.safetensors", size), model)
    save_file(
        {f"control_model.{key}": each.contiguous() for key, each in whole.items()}, tmp_path / "whole.safetensors"
    )
    one = load_controlnet(tmp_path / "lora.safetensors", DEVICES).set_cond_hint(hint(2), 0.7)
    other = load_controlnet(tmp_path / "whole.safetensors", DEVICES).set_cond_hint(hint(2), 0.7)
    ours, wanted = answer(one, model, size), answer(other, model, size)
    torch.testing.assert_close(ours["output"], wanted["output"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours["middle"], wanted["middle"], rtol=1e-4, atol=1e-5)
    assert one.get_models() == []
    torch.testing.assert_close(answer(one, model, size)["middle"], ours["middle"])
    foreign = base(SDXL if size is SD15 else SD15)
    with pytest.raises(UnfitInput, match=r"lora.safetensors does not fit m.safetensors: .* another family"):
        answer(one, foreign, SDXL if size is SD15 else SD15)


def test_a_network_of_another_family_says_what_it_lacks(tmp_path: Path) -> None:
    one = load_controlnet(save_controlnet(tmp_path / "xl.safetensors", SDXL), DEVICES).set_cond_hint(hint())
    with pytest.raises(
        UnfitInput,
        match=r"xl.safetensors does not fit m.safetensors: .* text of width 128, not 64 and a vector of 1600",
    ):
        answer(one, base())
    two = load_controlnet(save_controlnet(tmp_path / "sd.safetensors"), DEVICES).set_cond_hint(hint())
    with pytest.raises(UnfitInput, match=r"text of width 64, not 128"):
        answer(two, base(SDXL), SDXL)
    three = load_controlnet(save_adapter(tmp_path / "t2i.safetensors"), DEVICES).set_cond_hint(hint())
    with pytest.raises(UnfitInput, match=r"the widths \[64, 128\], the model has \[64, 64, 64\]"):
        answer(three, base(SDXL), SDXL)


def test_without_a_picture_it_cannot_be_used(tmp_path: Path) -> None:
    control = load_controlnet(save_controlnet(tmp_path / "cn.safetensors"), DEVICES)
    with pytest.raises(UnfitInput, match="was given no picture"):
        answer(control, base())
    with pytest.raises(UnfitInput, match=r"pictures with 3 channels.*\(1, 1, 8, 8\)"):
        answer(control.set_cond_hint(torch.zeros(1, 1, 8, 8)), base())


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("controlnet_x_embedder.weight", "for Flux"),
        ("lora_unet_x.lora_up.weight", "a LoRA"),
        ("anything", "its architecture is unknown"),
    ],
)
def test_what_is_no_control_network_is_named(key: str, what: str, tmp_path: Path) -> None:
    save_file({key: torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match=rf"a.safetensors cannot be used: .*{what}"):
        load_controlnet(tmp_path / "a.safetensors", DEVICES)


def test_a_file_that_lacks_weights_says_which(tmp_path: Path) -> None:
    weights = load_file(save_controlnet(tmp_path / "cn.safetensors"))
    del weights["control_model.zero_convs.1.0.weight"]
    save_file(weights, tmp_path / "cn.safetensors")
    with pytest.raises(ModelFileError, match=r"ControlNet is not complete.*zero_convs.1.0.weight"):
        load_controlnet(tmp_path / "cn.safetensors", DEVICES)
