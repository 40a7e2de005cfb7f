"""Packs that patch, load and look into models, against the core nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from limner.errors import UnfitInput
from tests.support.tiny import controlnet
from tests.unit.compat.conftest import Packs
from tests.unit.compat.deep import CHECKPOINT, LORA, OTHER, Deep, deep_pack


@pytest.fixture(scope="module")
def deep(loaded: Packs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deep]:
    with deep_pack(loaded, tmp_path_factory.mktemp("deep")) as made:
        yield made


def test_a_cfg_function_joins_in_place_of_the_scale(deep: Deep) -> None:
    model, _, _ = deep.parts()
    [same] = deep.pack("RescaledCfg", model, 1.0)
    assert torch.allclose(deep.walked(same), deep.walked(model), atol=1e-4)
    [less] = deep.pack("RescaledCfg", model, 0.5)
    assert torch.allclose(deep.walked(less, cfg=6.0), deep.walked(model, cfg=3.0), atol=1e-4)


def test_a_function_after_guidance_is_told_each_step(deep: Deep) -> None:
    model, _, _ = deep.parts()
    seen: list[Any] = []
    [watched] = deep.pack("PostCfg", model, seen)
    assert torch.allclose(deep.walked(watched, cfg=1.0), deep.walked(model, cfg=1.0), atol=1e-4)
    assert [shape for _, _, shape in seen] == [torch.Size([1, 4, 8, 8])] * 3
    assert seen[0][:2] == (pytest.approx(14.6146, abs=1e-3), 1.0)


def test_an_attention_of_the_pack_stands_in_for_the_own_one(deep: Deep) -> None:
    model, _, _ = deep.parts()
    plain = deep.walked(model)
    [same] = deep.pack("OwnAttention", model)
    assert torch.allclose(deep.walked(same), plain, atol=1e-4)
    picture = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(3))
    [adapted] = deep.pack("OwnAttention", model, picture, 0.8)
    changed = deep.walked(adapted)
    assert (changed - plain).abs().max() > 1e-2
    [weaker] = deep.pack("OwnAttention", model, picture, 1e-4)
    assert (deep.walked(weaker) - plain).abs().max() < (changed - plain).abs().max() / 10
    assert torch.equal(deep.walked(model), plain)


def test_a_lora_by_hand_is_that_of_the_core_node(deep: Deep) -> None:
    model, clip, _ = deep.parts()
    path = deep.folder / "loras" / LORA
    core = deep.nodes.LoraLoader().load_lora(model, clip, LORA, 0.7, 0.4)
    mine = deep.pack("LoraByHand", model, clip, str(path), 0.7, 0.4)
    assert torch.equal(mine[1].encode("a cat"), core[1].encode("a cat"))
    assert not torch.equal(core[1].encode("a cat"), clip.encode("a cat"))
    assert torch.allclose(deep.walked(mine[0]), deep.walked(core[0]), atol=1e-5)
    keyed = deep.pack("LoraByKeys", model, clip, str(path), 0.7)
    both = deep.nodes.LoraLoader().load_lora(model, clip, LORA, 0.7, 0.7)
    assert torch.allclose(keyed[1].encode("a cat"), both[1].encode("a cat"), atol=1e-5)
    assert torch.allclose(deep.walked(keyed[0]), deep.walked(both[0]), atol=1e-5)


def test_a_merge_by_hand_is_that_of_the_core_node(deep: Deep) -> None:
    model, clip, _ = deep.parts()
    other = deep.nodes.LoraLoader().load_lora(model, clip, LORA, 1.0, 0.0)[0]
    [mine] = deep.pack("MergeByHand", model, other, 0.25)
    core = deep.core("ModelMergeSimple", model1=model, model2=other, ratio=0.25)
    assert torch.allclose(deep.walked(mine), deep.walked(core), atol=1e-4)


def test_patches_come_in_every_form_that_packs_write(deep: Deep) -> None:
    model, _, _ = deep.parts()
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_q.weight"
    weight = model.model_state_dict(key)[key].float()
    change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    up, down = change[:, :4].clone(), change[:4].clone()
    forms = {
        "bare": ((change,), weight + 0.5 * change),
        "diff": (("diff", (change,)), weight + 0.5 * change),
        "set": (("set", (change,)), change),
        "lora": (("lora", (up, down, 2.0, None, None, None)), weight + 0.5 * (2.0 / 4) * up @ down),
    }
    for name, (value, wanted) in forms.items():
        m = model.clone()
        assert m.add_patches({key: value, "diffusion_model.nowhere": value}, 0.5) == [key]
        assert torch.allclose(m.patched_weight(key).float(), wanted, atol=2e-2), name
    part = model.clone()
    part.add_patches({(key, (0, 8, 16)): (change[8:24],)}, 1.0)
    wanted = weight.clone()
    wanted[8:24] += change[8:24]
    assert torch.allclose(part.patched_weight(key).float(), wanted, atol=2e-2)
    with pytest.raises(UnfitInput, match="of the form 'oft' is not known"):
        model.clone().add_patches({key: ("oft", ())})


def test_wrappers_are_called_around_each_part_of_a_walk(deep: Deep) -> None:
    model, _, _ = deep.parts()
    seen: list[str] = []
    [wrapped] = deep.pack("Wrapped", model, seen)
    assert wrapped.clone().get_attachment("deep") == {"kept": 1}
    assert torch.allclose(deep.walked(wrapped, steps=1), deep.walked(model, steps=1), atol=1e-5)
    step = ["PREDICT_NOISE", "CALC_COND_BATCH", "APPLY_MODEL", "DIFFUSION_MODEL"]
    assert seen == ["OUTER_SAMPLE", "inject", "ON_PRE_RUN", "SAMPLER_SAMPLE", *step, "ON_CLEANUP", "eject"]


def test_wrappers_may_change_what_goes_through_them(deep: Deep) -> None:
    import comfy.patcher_extension as extension

    model, _, _ = deep.parts()
    changed = model.clone()
    kind = extension.WrappersMP.OUTER_SAMPLE
    extension.add_wrapper_with_key(
        kind, "deep", lambda executor, noise, *rest: executor(noise * 0.5, *rest), changed.model_options, True
    )
    assert len(extension.get_wrappers_with_key(kind, "deep", changed.model_options, is_model_options=True)) == 1
    assert not torch.allclose(deep.walked(changed), deep.walked(model), atol=1e-3)
    with pytest.raises(UnfitInput, match="calls no wrappers of the kind 'prepare_sampling'"):
        changed.add_wrapper_with_key(extension.WrappersMP.PREPARE_SAMPLING, "deep", lambda executor, *a: None)
    with pytest.raises(UnfitInput, match="calls nobody at 'on_prepare_state'"):
        changed.add_callback(extension.CallbacksMP.ON_PREPARE_STATE, lambda *_: None)


def test_a_wrapper_of_the_network_sees_both_sides(deep: Deep) -> None:
    model, _, _ = deep.parts()
    seen: list[list[int]] = []
    [watched] = deep.pack("UnetWrapper", model, seen)
    assert torch.allclose(deep.walked(watched), deep.walked(model), atol=1e-5)
    assert [sorted(sides) for sides in seen] == [[0, 1]] * 3


def test_previewers_make_pictures_of_latents(deep: Deep) -> None:
    model, _, _ = deep.parts()
    x0 = torch.randn(1, 4, 8, 6, generator=torch.Generator().manual_seed(1))
    own, louder = deep.pack("Preview", model, x0)
    assert own.size == (6, 8)
    assert own.tobytes() == bytes(model.latent_format.colours(x0)[0].reshape(-1).tolist())
    assert own.tobytes() != louder.tobytes()


def test_checkpoints_come_by_their_path(deep: Deep) -> None:
    import comfy.sd

    path = str(deep.folder / "checkpoints" / CHECKPOINT)
    model, clip, vae, vision = comfy.sd.load_checkpoint_guess_config(path, embedding_directory=None)
    assert vision is None
    assert (model, clip, vae) == deep.parts()
    assert isinstance(clip, comfy.sd.CLIP)
    assert isinstance(vae, comfy.sd.VAE)
    assert comfy.sd.load_checkpoint(ckpt_path=path, output_clip=False)[1] is None
    with pytest.raises(UnfitInput, match="without the option 'custom_operations'"):
        comfy.sd.load_diffusion_model(path, model_options={"custom_operations": object()})


def test_parts_come_of_tensors_that_a_pack_has_read(deep: Deep) -> None:
    import comfy.sd
    import comfy.utils

    model, _, vae = deep.parts()
    tensors = comfy.utils.load_torch_file(str(deep.folder / "checkpoints" / OTHER))
    unet = {key: each for key, each in tensors.items() if key.startswith("model.diffusion_model.")}
    assert torch.allclose(deep.walked(comfy.sd.load_diffusion_model_state_dict(unet)), deep.walked(model), atol=1e-5)
    start = "first_stage_model."
    own = comfy.sd.VAE(sd={key.removeprefix(start): each for key, each in tensors.items() if key.startswith(start)})
    latent = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(own.decode(latent), vae.decode(latent), atol=1e-4)
    assert isinstance(own, comfy.sd.VAE)
    with pytest.raises(UnfitInput, match="holds no tensors"):
        comfy.sd.VAE(sd={})


def test_a_vae_answers_by_the_names_that_packs_know(deep: Deep) -> None:
    _, _, vae = deep.parts()
    assert (vae.downscale_ratio, vae.latent_channels, vae.output_channels, vae.latent_dim) == (8, 4, 3, 2)
    pixels = torch.rand(1, 19, 21, 3)
    assert vae.vae_encode_crop_pixels(pixels).shape == (1, 16, 16, 3)
    assert torch.equal(vae.encode(pixels), vae.encode(vae.vae_encode_crop_pixels(pixels)))
    assert vae.get_sd().keys() == set(vae.patcher.keys)
    assert next(vae.first_stage_model.parameters()).ndim > 0
    assert vae.process_output(torch.tensor([-1.0, 1.0, 3.0])).tolist() == [0, 1, 1]


def test_a_base_model_is_of_its_family_s_class(deep: Deep) -> None:
    import comfy.model_base
    import comfy.supported_models

    base = deep.parts()[0].model
    assert isinstance(base, comfy.model_base.BaseModel)
    assert not isinstance(base, comfy.model_base.SDXL)
    assert isinstance(base.model_config, comfy.supported_models.SD15)
    assert not isinstance(base.model_config, comfy.supported_models.SDXL)
    assert base.model_type == comfy.model_base.ModelType.EPS
    assert base.model_config.unet_config["context_dim"] == 64
    assert base.process_latent_in(torch.ones(1, 4, 1, 1)).max() == pytest.approx(0.18215)

    class Mine(comfy.model_base.BaseModel):  # type: ignore[misc]
        pass

    with pytest.raises(UnfitInput, match=r"Mine cannot be made as a comfy\.model_base\.BaseModel"):
        Mine(None)


def test_any_module_may_be_put_into_a_model_patcher(deep: Deep) -> None:
    import comfy.model_management
    from comfy.model_patcher import ModelPatcher

    model, _, _ = deep.parts()
    assert isinstance(model, ModelPatcher)

    class Mine(ModelPatcher):  # type: ignore[misc]
        pass

    layer = nn.Linear(4, 3)
    own = Mine(layer, load_device=comfy.model_management.get_torch_device(), offload_device=torch.device("cpu"))
    assert isinstance(own, ModelPatcher)
    assert not isinstance(model, Mine)
    assert own.clone().model is layer
    assert own.model_size() == 15 * 4
    assert own.get_model_object("weight") is layer.weight
    taken = own.add_patches({"weight": (torch.ones(3, 4),)}, 2.0)
    assert taken == ["weight"]
    assert torch.allclose(own.patched_weight("weight"), layer.weight + 2)
    model = model.clone()
    model.set_additional_models("deep", [own])
    assert torch.allclose(deep.walked(model), deep.walked(deep.parts()[0]), atol=1e-5)


def test_models_are_brought_to_their_device_with_their_patches(deep: Deep) -> None:
    import comfy.model_management

    model, clip, vae = deep.parts()
    patched = model.clone()
    key = "diffusion_model.out.2.bias"
    patched.add_patches({key: (torch.full((4,), 3.0),)})
    comfy.model_management.load_models_gpu([patched, vae.patcher], memory_required=0)
    network = patched.model.diffusion_model
    assert torch.allclose(network.conv_out.bias.float(), patched.patched_weight(key).float(), atol=2e-3)
    comfy.model_management.load_model_gpu(model)
    assert torch.allclose(network.conv_out.bias.float(), model.model_state_dict(key)[key].float())
    assert clip.load_model() is clip
    assert clip.get_sd().keys() == set(clip.keys)
    layer = nn.Linear(2, 2)
    comfy.model_management.load_model_gpu(layer)
    assert layer.weight.device == comfy.model_management.get_torch_device()


def test_a_control_of_the_pack_adds_to_what_the_core_one_gives(deep: Deep) -> None:
    import comfy.controlnet

    model, clip, _ = deep.parts()
    positive, _ = deep.conditionings(clip)
    controlnet.save_controlnet(deep.folder / "controlnet" / "tiny.safetensors")
    core = comfy.controlnet.load_controlnet(str(deep.folder / "controlnet" / "tiny.safetensors"))
    assert isinstance(core, comfy.controlnet.ControlNet)
    assert isinstance(core, comfy.controlnet.ControlBase)
    assert not isinstance(core, comfy.controlnet.T2IAdapter)
    core = core.copy().set_cond_hint(torch.rand(1, 3, 64, 64), 0.5, (0.0, 1.0))
    asked: list[int] = []

    class Mine(comfy.controlnet.ControlBase):  # type: ignore[misc]
        def get_control(self, x_noisy: Any, t: Any, cond: Any, batched_number: int, transformer_options: Any) -> Any:
            before = None
            if self.previous_controlnet is not None:
                before = self.previous_controlnet.get_control(x_noisy, t, cond, batched_number, transformer_options)
            asked.append(batched_number)
            return self.control_merge({"input": [], "middle": [], "output": []}, before, x_noisy.dtype)

    def under(control: Any) -> Any:
        told = {"control": control, "control_apply_to_uncond": True}
        return deep.walked(model, positive=[[text, {**extras, **told}] for text, extras in positive])

    alone = under(core)
    assert not torch.allclose(alone, deep.walked(model), atol=1e-4)
    own = Mine()
    own.set_previous_controlnet(core)
    assert torch.allclose(under(own), alone, atol=1e-5)
    assert asked == [2, 2, 2]
