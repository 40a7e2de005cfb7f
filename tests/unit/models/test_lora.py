from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from limner.errors import ModelFileError, UnfitInput
from limner.models.keys import KeyMap, Place
from limner.models.lora.apply import add_lora
from limner.models.lora.read import read_lora
from limner.models.patcher import Patcher
from limner.models.residency import use
from tests.support.tiny.lora import low_rank, save_lora

CPU = torch.device("cpu")
LINEAR = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_out.0"
CONV = "diffusion_model.input_blocks.1.0.in_layers.2"
QKV = "diffusion_model.layers.0.attention.qkv"
NORM = "diffusion_model.input_blocks.1.1.norm"
ENCODER = "clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj"
SECOND = "clip_g.transformer.text_model.encoder.layers.0.self_attn.q_proj"


class Network(nn.Module):
    """A few modules in diffusers' layout; q, k and v are apart here and joined in the original."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        attention = nn.ModuleDict({"to_out": nn.ModuleList([nn.Linear(6, 8)])})
        self.down_blocks = nn.ModuleList([nn.ModuleDict({"resnets": nn.ModuleList([nn.ModuleDict()])})])
        self.down_blocks[0]["resnets"][0]["conv1"] = nn.Conv2d(4, 8, 3)  # type: ignore[index]
        self.down_blocks[0]["attentions"] = nn.ModuleList(  # type: ignore[index]
            [
                nn.ModuleDict(
                    {
                        "norm": nn.GroupNorm(2, 8),
                        "transformer_blocks": nn.ModuleList([nn.ModuleDict({"attn2": attention})]),
                    }
                )
            ]
        )
        self.layers = nn.ModuleList([nn.ModuleDict({"attention": nn.ModuleDict()})])
        for name, rows in (("to_q", 8), ("to_k", 4), ("to_v", 4)):
            self.layers[0]["attention"][name] = nn.Linear(8, rows)  # type: ignore[index]


def patcher() -> Patcher:
    own = {
        LINEAR: ("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0",),
        CONV: ("down_blocks.0.resnets.0.conv1",),
        NORM: ("down_blocks.0.attentions.0.norm",),
        QKV: tuple(f"layers.0.attention.to_{each}" for each in "qkv"),
    }
    places = {
        f"{key}.{end}": tuple(Place(f"{name}.{end}") for name in names)
        for key, names in own.items()
        for end in ("weight", "bias")
    }
    return Patcher(Network().requires_grad_(False), KeyMap(places), CPU)


def encoders() -> Patcher:
    module = nn.ModuleDict()
    for name in ("clip_l", "clip_g"):
        attention = nn.ModuleDict({"self_attn": nn.ModuleDict({"q_proj": nn.Linear(8, 8)})})
        module[name] = nn.ModuleDict({"encoder": nn.ModuleDict({"layers": nn.ModuleList([attention])})})
    keys = {
        f"{key}.{end}": (Place(f"{key[:6]}.encoder.layers.0.self_attn.q_proj.{end}"),)
        for key in (ENCODER, SECOND)
        for end in ("weight", "bias")
    }
    return Patcher(module.requires_grad_(False), KeyMap(keys), CPU)


def change(
    path: Path, weights: dict[str, Tensor], key: str, *, strength: float = 1.0, end: str = "weight"
) -> tuple[Tensor, Tensor]:
    """A weight as it is, and under a LoRA of these tensors."""
    save_file({name: each.contiguous() for name, each in weights.items()}, path / "a.safetensors")
    user = patcher()
    before = user.weight(f"{key}.{end}").clone()
    add(path / "a.safetensors", user, strength=strength)
    with use(user):
        return before, user.keys.gather(user.module, f"{key}.{end}").clone()


def add(
    path: Path,
    model: Patcher | None = None,
    clip: Patcher | None = None,
    *,
    strength: float = 1.0,
    warn: Callable[[str], None] = lambda text: pytest.fail(text),
) -> None:
    add_lora(
        read_lora(path),
        model,
        clip,
        model_name="m.safetensors",
        strength_model=strength,
        strength_clip=strength,
        warn=warn,
    )


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


OURS = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"


@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_out_0", "kohya"),
        (f"lora_unet_{OURS.replace('.', '_')}_to_out_0", "kohya"),
        (f"lycoris_{OURS.replace('.', '_')}_to_out_0", "kohya"),
        (LINEAR, "kohya"),
        (LINEAR, "diffusers"),
        (LINEAR.removeprefix("diffusion_model."), "diffusers"),
        (f"model.{LINEAR}", "diffusers"),
        (f"unet.{OURS}.to_out.0", "diffusers"),
        (f"transformer.{OURS}.to_out.0", "diffusers"),
        (f"base_model.model.{OURS}.to_out.0", "diffusers"),
        (f"unet.{OURS}.to_out.0", "old diffusers"),
        (f"unet.{OURS}.processor.to_out", "processors"),
        (f"{OURS}.processor.to_out", "processors"),
    ],
)
def test_every_style_of_names_reaches_the_weight(name: str, style: str, tmp_path: Path) -> None:
    save_lora(tmp_path / "a.safetensors", {name: (8, 6)}, style=style, rank=2, alpha=3.0)
    user = patcher()
    before = user.weight(f"{LINEAR}.weight").clone()
    add(tmp_path / "a.safetensors", user, strength=-0.5)
    up, down = low_rank((8, 6), 2)
    with use(user):
        close(user.keys.gather(user.module, f"{LINEAR}.weight"), before - 0.5 * 3.0 / 2 * (up @ down))


def test_without_alpha_the_product_counts_whole(tmp_path: Path) -> None:
    up, down = low_rank((8, 6), 2)
    before, after = change(tmp_path, {f"{LINEAR}.lora_B.weight": up, f"{LINEAR}.lora_A.weight": down}, LINEAR)
    close(after, before + up @ down)


def test_a_kernel_s_change_is_the_two_convolutions_one_after_the_other(tmp_path: Path) -> None:
    up, down = low_rank((8, 4, 3, 3), 2)
    name = "lora_unet_down_blocks_0_resnets_0_conv1"
    before, after = change(
        tmp_path,
        {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down, f"{name}.alpha": torch.tensor(1.0)},
        CONV,
    )
    x = torch.randn(1, 4, 7, 7)
    twice = nn.functional.conv2d(nn.functional.conv2d(x, down), up) / 2
    torch.testing.assert_close(nn.functional.conv2d(x, after - before), twice, rtol=1e-4, atol=1e-5)


def test_a_kernel_with_a_core_is_three_convolutions(tmp_path: Path) -> None:
    up, core, down = torch.randn(8, 2, 1, 1), torch.randn(2, 2, 3, 3), torch.randn(2, 4, 1, 1)
    name = "lora_unet_input_blocks_1_0_in_layers_2"
    parts = {"lora_up": up, "lora_mid": core, "lora_down": down}
    before, after = change(tmp_path, {f"{name}.{part}.weight": each for part, each in parts.items()}, CONV)
    x = torch.randn(1, 4, 7, 7)
    thrice = x
    for kernel in (down, core, up):
        thrice = nn.functional.conv2d(thrice, kernel)
    torch.testing.assert_close(nn.functional.conv2d(x, after - before), thrice, rtol=1e-4, atol=1e-4)


def test_part_of_a_joined_weight_is_reached_by_its_own_name_and_all_of_it_by_the_original(tmp_path: Path) -> None:
    k_up, k_down = low_rank((4, 8), 2)
    v_up, v_down = low_rank((4, 8), 3, seed=1)
    all_up, all_down = low_rank((16, 8), 2)
    weights = {
        "transformer.layers.0.attention.to_k.lora_B.weight": k_up,
        "transformer.layers.0.attention.to_k.lora_A.weight": k_down,
        "lora_unet_layers_0_attention_to_v.lora_up.weight": v_up,
        "lora_unet_layers_0_attention_to_v.lora_down.weight": v_down,
        f"{QKV}.lora_B.weight": all_up,
        f"{QKV}.lora_A.weight": all_down,
    }
    before, after = change(tmp_path, weights, QKV)
    wanted = before + all_up @ all_down
    wanted[8:12] += k_up @ k_down
    wanted[12:] += v_up @ v_down
    close(after, wanted)


def test_loha_is_the_product_of_two_products(tmp_path: Path) -> None:
    a1, b1, a2, b2 = torch.randn(8, 2), torch.randn(2, 6), torch.randn(8, 2), torch.randn(2, 6)
    parts = {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2, "alpha": torch.tensor(1.0)}
    before, after = change(tmp_path, {f"{LINEAR}.{part}": each for part, each in parts.items()}, LINEAR)
    close(after, before + 0.5 * (a1 @ b1) * (a2 @ b2))


def test_loha_with_cores(tmp_path: Path) -> None:
    a1, b1, a2, b2 = torch.randn(2, 8), torch.randn(2, 4), torch.randn(2, 8), torch.randn(2, 4)
    t1, t2 = torch.randn(2, 2, 3, 3), torch.randn(2, 2, 3, 3)
    parts = {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2, "hada_t1": t1, "hada_t2": t2}
    before, after = change(tmp_path, {f"{CONV}.{part}": each for part, each in parts.items()}, CONV)
    wanted = before.clone()
    for y in range(3):
        for x in range(3):
            wanted[..., y, x] += (a1.T @ t1[..., y, x] @ b1) * (a2.T @ t2[..., y, x] @ b2)
    torch.testing.assert_close(after, wanted, rtol=1e-4, atol=1e-4)


def test_lokr_is_a_kronecker_product(tmp_path: Path) -> None:
    small, a, b = torch.randn(2, 3), torch.randn(4, 2), torch.randn(2, 2)
    parts = {"lokr_w1": small, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(1.0)}
    before, after = change(tmp_path, {f"{LINEAR}.{part}": each for part, each in parts.items()}, LINEAR)
    close(after, before + torch.kron(small, a @ b) / 2)


def test_lokr_of_two_whole_factors_knows_no_alpha_and_reaches_kernels(tmp_path: Path) -> None:
    small, large = torch.randn(2, 2), torch.randn(4, 2, 3, 3)
    parts = {"lokr_w1": small, "lokr_w2": large, "alpha": torch.tensor(7.0)}
    before, after = change(tmp_path, {f"{CONV}.{part}": each for part, each in parts.items()}, CONV)
    wanted = before + torch.stack([torch.kron(small, large.flatten(2)[..., each]) for each in range(9)], -1).reshape(
        8, 4, 3, 3
    )
    close(after, wanted)


def test_lokr_with_a_core(tmp_path: Path) -> None:
    w1a, w1b, core = torch.randn(2, 3), torch.randn(3, 2), torch.randn(3, 3, 3, 3)
    w2a, w2b = torch.randn(3, 4), torch.randn(3, 2)
    parts = {"lokr_w1_a": w1a, "lokr_w1_b": w1b, "lokr_w2_a": w2a, "lokr_w2_b": w2b, "lokr_t2": core}
    before, after = change(tmp_path, {f"{CONV}.{part}": each for part, each in parts.items()}, CONV)
    wanted = before.clone()
    for y in range(3):
        for x in range(3):
            wanted[..., y, x] += torch.kron(w1a @ w1b, w2a.T @ core[..., y, x] @ w2b)
    torch.testing.assert_close(after, wanted, rtol=1e-4, atol=1e-4)


def test_glora_changes_by_the_weight_itself(tmp_path: Path) -> None:
    a1, a2, b1, b2 = torch.randn(2, 6), torch.randn(6, 2), torch.randn(2, 6), torch.randn(8, 2)
    parts = {"a1": a1, "a2": a2, "b1": b1, "b2": b2}
    weights = {f"{LINEAR}.{part}.weight": each for part, each in parts.items()} | {f"{LINEAR}.alpha": torch.tensor(1.0)}
    before, after = change(tmp_path, weights, LINEAR)
    torch.testing.assert_close(after, before + (before @ a2 @ a1 + b2 @ b1) / 2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_dora_turns_directions_and_learns_lengths_of_outputs(strength: float, tmp_path: Path) -> None:
    up, down = low_rank((8, 6), 2)
    lengths = torch.rand(8, 1) + 0.5
    parts = {"lora_up.weight": up, "lora_down.weight": down, "dora_scale": lengths, "alpha": torch.tensor(1.0)}
    before, after = change(
        tmp_path, {f"{LINEAR}.{part}": each for part, each in parts.items()}, LINEAR, strength=strength
    )
    moved = before + up @ down / 2
    wanted = lengths * moved / moved.norm(dim=1, keepdim=True)
    torch.testing.assert_close(after, before + strength * (wanted - before), rtol=1e-5, atol=1e-5)
    if strength == 1:
        close(after.norm(dim=1), lengths[:, 0])


def test_dora_may_learn_lengths_of_inputs_and_be_named_by_peft(tmp_path: Path) -> None:
    up, down = low_rank((8, 4, 3, 3), 2)
    lengths = torch.rand(1, 4, 1, 1) + 0.5
    parts = {"lora_up.weight": up, "lora_down.weight": down, "dora_scale": lengths}
    before, after = change(tmp_path, {f"{CONV}.{part}": each for part, each in parts.items()}, CONV)
    close(after.movedim(1, 0).flatten(1).norm(dim=1), lengths.flatten())
    up, down = low_rank((8, 6), 2)
    parts = {"lora_B.weight": up, "lora_A.weight": down, "lora_magnitude_vector": torch.arange(1.0, 9)}
    before, after = change(tmp_path, {f"{LINEAR}.{part}": each for part, each in parts.items()}, LINEAR)
    close(after.norm(dim=1), torch.arange(1.0, 9))
    assert not torch.equal(after / after.norm(dim=1, keepdim=True), before / before.norm(dim=1, keepdim=True))


@pytest.mark.parametrize(
    ("end", "key", "where"),
    [(".diff", LINEAR, "weight"), (".diff_b", LINEAR, "bias"), (".w_norm", NORM, "weight"), (".b_norm", NORM, "bias")],
)
def test_norms_biases_and_whole_differences_are_added(end: str, key: str, where: str, tmp_path: Path) -> None:
    shape = patcher().weight(f"{key}.{where}").shape
    added = torch.randn(shape)
    before, after = change(tmp_path, {f"{key}{end}": added}, key, end=where, strength=2.0)
    close(after, before + 2 * added)


def test_half_precision_files_are_summed_in_full(tmp_path: Path) -> None:
    up, down = (each.half() for each in low_rank((8, 6), 2))
    before, after = change(tmp_path, {f"{LINEAR}.lora_B.weight": up, f"{LINEAR}.lora_A.weight": down}, LINEAR)
    close(after, before + up.float() @ down.float())


def test_several_stack_and_clones_do_not_share_them(tmp_path: Path) -> None:
    one = save_lora(tmp_path / "a.safetensors", {LINEAR: (8, 6)}, alpha=None)
    two = save_lora(tmp_path / "b.safetensors", {LINEAR: (8, 6)}, alpha=None, seed=5)
    plain = patcher()
    before = plain.weight(f"{LINEAR}.weight").clone()
    user = plain.clone()
    add(one, user)
    add(two, user, strength=-2.0)
    up1, down1 = low_rank((8, 6), 4)
    up2, down2 = low_rank((8, 6), 4, seed=5)
    with use(user):
        close(user.keys.gather(user.module, f"{LINEAR}.weight"), before + up1 @ down1 - 2 * up2 @ down2)
    with use(plain):
        assert torch.equal(plain.keys.gather(plain.module, f"{LINEAR}.weight"), before)


@pytest.mark.parametrize(
    ("name", "key", "style"),
    [
        ("lora_te_text_model_encoder_layers_0_self_attn_q_proj", ENCODER, "kohya"),
        ("lora_te1_text_model_encoder_layers_0_self_attn_q_proj", ENCODER, "kohya"),
        ("lora_te2_text_model_encoder_layers_0_self_attn_q_proj", SECOND, "kohya"),
        ("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", ENCODER, "diffusers"),
        ("text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj", SECOND, "diffusers"),
        ("text_encoder.text_model.encoder.layers.0.self_attn.to_q", ENCODER, "processors"),
        ("text_encoder.encoder.layers.0.self_attn.q_proj", ENCODER, "old diffusers"),
        (SECOND, SECOND, "diffusers"),
        (f"text_encoders.{ENCODER}", ENCODER, "diffusers"),
    ],
)
def test_text_encoders_are_reached_by_number_and_by_name(name: str, key: str, style: str, tmp_path: Path) -> None:
    path = save_lora(tmp_path / "a.safetensors", {name: (8, 8)}, style=style, alpha=None)
    user = encoders()
    before = {each: user.weight(f"{each}.weight").clone() for each in (ENCODER, SECOND)}
    add(path, None, user)
    up, down = low_rank((8, 8), 4)
    with use(user):
        for each, weight in before.items():
            wanted = weight + up @ down if each == key else weight
            close(user.keys.gather(user.module, f"{each}.weight"), wanted)


def test_a_lora_of_unknown_names_is_refused_with_what_it_looks_like(tmp_path: Path) -> None:
    path = save_lora(tmp_path / "other.safetensors", {"lora_unet_double_blocks_0_img_attn_qkv": (24, 8)})
    with pytest.raises(
        UnfitInput, match=r"other.safetensors does not fit m.safetensors: none of its 1 parts.*looks made for Flux.1"
    ):
        add(path, patcher(), encoders())


def test_a_lora_of_other_widths_is_refused_with_what_it_looks_like(tmp_path: Path) -> None:
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_"
    path = save_lora(tmp_path / "xl.safetensors", {f"{name}k": (640, 2048), f"{name}out_0": (640, 640)})
    user = patcher()
    with pytest.raises(UnfitInput, match=r"xl.safetensors does not fit m.safetensors.*\(640, 640\).*\(8, 6\).*XL"):
        add(path, user)
    assert not user.patches


def test_some_unknown_parts_are_told_and_the_others_added(tmp_path: Path) -> None:
    path = save_lora(tmp_path / "a.safetensors", {LINEAR: (8, 6), "lora_unet_of_somebody_else": (8, 6)})
    told: list[str] = []
    user = patcher()
    add(path, user, warn=told.append)
    assert list(user.patches) == [f"{LINEAR}.weight"]
    assert len(told) == 1
    assert "a.safetensors: 1 parts are unknown to m.safetensors" in told[0]
    assert "lora_unet_of_somebody_else" in told[0]


def test_without_text_encoders_their_parts_are_left_out_silently(tmp_path: Path) -> None:
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    path = save_lora(tmp_path / "a.safetensors", {LINEAR: (8, 6), text: (8, 8)})
    user = patcher()
    add(path, user)
    assert list(user.patches) == [f"{LINEAR}.weight"]
    only = save_lora(tmp_path / "b.safetensors", {text: (8, 8)})
    with pytest.raises(UnfitInput, match=r"b.safetensors changes text encoders alone"):
        add(only, user)


def test_strength_zero_changes_nothing(tmp_path: Path) -> None:
    user = patcher()
    add(save_lora(tmp_path / "a.safetensors", {LINEAR: (8, 6)}), user, strength=0.0)
    assert not user.patches


def test_tensors_that_do_not_go_together_are_told(tmp_path: Path) -> None:
    weights = {f"{LINEAR}.lora_up.weight": torch.zeros(8, 3), f"{LINEAR}.lora_down.weight": torch.zeros(2, 6)}
    save_file(weights, tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match=r"do not go together: down \(2, 6\), up \(8, 3\)"):
        read_lora(tmp_path / "a.safetensors")


def test_a_file_without_any_lora_is_told(tmp_path: Path) -> None:
    save_file({"some.weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match=r"holds no LoRA in a style that is known here.*some.weight"):
        read_lora(tmp_path / "a.safetensors")
