"""What is placed, under whose patches, who makes room for whom, and what happens when memory runs out."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from limner.errors import OutOfMemory
from limner.models import residency
from limner.models.attention import attention
from limner.models.build import fill
from limner.models.checkpoint import read_header
from limner.models.device import Devices
from limner.models.files import ModelFolders
from limner.models.keys import KeyMap, Place
from limner.models.library import ModelLibrary
from limner.models.patcher import Patcher
from limner.models.patches import Difference
from limner.models.placement import placement
from limner.models.residency import BUDGET, free, taken, use, within_memory
from limner.models.weights import open_weights
from tests.support.tiny import checkpoints as tiny

CPU = torch.device("cpu")
MIB = 1 << 20


@pytest.fixture(autouse=True)
def budgets() -> Iterator[None]:
    free()
    ram = BUDGET.ram
    yield
    BUDGET.ram = ram
    free()


def halves(path: Path, rows: int = 1024) -> Patcher:
    """A module of one weight (rows, 256), in half precision in its file and computed with in float32."""
    save_file({"weight": torch.randn(rows, 256).half()}, path)
    module = nn.Linear(256, rows, bias=False, device="meta")
    keys = KeyMap({"w.weight": (Place("weight"),)})
    fill(module, keys, open_weights(path).tensors(), header=read_header(path), part="weight", prefix="w.")
    return Patcher(module, keys, CPU, torch.float32)


def patched(user: Patcher, amount: float) -> Patcher:
    other = user.clone()
    assert other.add_weight_patches({"w.weight": Difference(difference=torch.tensor(amount))}) == ["w.weight"]
    return other


def test_a_module_is_in_its_precision_while_in_use_and_goes_home_for_nothing(tmp_path: Path) -> None:
    user = halves(tmp_path / "a.safetensors")
    original = user.weight("w.weight").clone()
    assert user.module.weight.dtype == torch.float16
    with use(user):
        assert user.module.weight.dtype == torch.float32
        assert torch.equal(user.module.weight, original.float())
        assert taken(CPU) == MIB
    assert user.module.weight.dtype == torch.float32, "it stays until there is need for the room"
    free()
    assert user.module.weight.dtype == torch.float16
    assert taken(CPU) == 0
    assert torch.equal(user.module.weight, original)


def test_each_user_has_the_shared_weights_under_its_own_patches(tmp_path: Path) -> None:
    plain = halves(tmp_path / "a.safetensors")
    one, other = patched(plain, 1.0), patched(plain, 2.0)
    original = plain.weight("w.weight").float().clone()
    for user, amount in ((one, 1.0), (other, 2.0), (plain, 0.0), (one, 1.0), (one, 1.0)):
        with use(user):
            assert torch.allclose(plain.module.weight, original + amount)
            assert torch.equal(user.weight("w.weight").float(), original), "the weight itself is never patched"
    assert one.is_clone(other)


def test_what_a_block_has_taken_over_is_given_back_to_the_one_around_it(tmp_path: Path) -> None:
    plain = halves(tmp_path / "a.safetensors")
    one, other = patched(plain, 1.0), patched(plain, 2.0)
    original = plain.weight("w.weight").float().clone()
    with use(one):
        with use(other):
            assert torch.allclose(plain.module.weight, original + 2)
        assert torch.allclose(plain.module.weight, original + 1)


def test_a_patch_on_some_rows_leaves_the_others(tmp_path: Path) -> None:
    save_file({"q": torch.zeros(2, 4), "k": torch.zeros(2, 4)}, tmp_path / "a.safetensors")
    module = nn.Linear(4, 4, bias=False)
    nn.init.zeros_(module.weight)
    module.requires_grad_(False)
    keys = KeyMap({"q": (Place("weight", (0, 2)),), "k": (Place("weight", (2, 4)),)})
    user = Patcher(module, keys, CPU)
    one = user.clone()
    one.add_weight_patches({"k": Difference(difference=torch.ones(2, 4))})
    with use(one):
        assert module.weight.sum(dim=1).tolist() == [0, 0, 4, 4]
    one.add_weight_patches({"q": Difference(difference=torch.full((2, 4), 2.0))})
    with use(one):
        assert module.weight.sum(dim=1).tolist() == [8, 8, 4, 4]
    with use(user):
        assert not module.weight.count_nonzero()


def test_the_least_recently_used_make_room(tmp_path: Path) -> None:
    users = [halves(tmp_path / f"{number}.safetensors") for number in range(3)]
    BUDGET.ram = 2 * MIB + 100
    for user in (users[0], users[1], users[0], users[2]):
        with use(user):
            pass
    placed = [placement(user.module).device is not None for user in users]
    assert placed == [True, False, True]


def test_what_is_in_use_does_not_make_room(tmp_path: Path) -> None:
    first, second = halves(tmp_path / "a.safetensors"), halves(tmp_path / "b.safetensors")
    BUDGET.ram = MIB
    with use(first), use(second):
        assert first.module.weight.dtype == torch.float32
        assert placement(first.module).device is not None
        x = torch.randn(1, 256)
        assert torch.allclose(second.module(x), x @ second.weight("w.weight").float().T, atol=1e-5)


def test_weights_in_the_precision_of_the_file_take_nothing(tmp_path: Path) -> None:
    user = halves(tmp_path / "a.safetensors")
    user.dtype = torch.float16
    with use(user):
        assert taken(CPU) == 0


def test_a_forgotten_model_is_gone(tmp_path: Path) -> None:
    user = halves(tmp_path / "a.safetensors")
    with use(user):
        module = weakref.ref(user.module)
    del user
    gc.collect()
    assert module() is None
    assert taken(CPU) == 0


def test_a_network_larger_than_the_budget_gets_its_weights_layer_by_layer(models: ModelLibrary) -> None:
    model, _, _ = models.checkpoint("a.safetensors")
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    changed = model.clone()
    changed.add_weight_patches({key: Difference(difference=torch.full((1,), 0.5))})
    x, context = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 64)

    def answers() -> list[Tensor]:
        found = []
        for user in (model, changed, model):
            with torch.inference_mode(), use(user):
                found.append(user.model.apply_model(x, torch.tensor([5.0]), c_crossattn=context))
        return found

    whole, needed = answers(), taken(CPU)
    free()
    BUDGET.ram = needed // 3
    parts = answers()
    assert 0 < taken(CPU) <= needed // 3
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))
    assert not torch.equal(parts[0], parts[1])
    last = model.model.diffusion_model.conv_out
    assert last.weight.dtype == torch.float16, "between its calls a layer's weights are at home"
    free()
    assert not last._forward_pre_hooks
    assert taken(CPU) == 0


def exhausted(*_: Any, **__: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def test_where_memory_runs_out_the_unused_goes_and_less_is_tried_once(tmp_path: Path) -> None:
    idle = halves(tmp_path / "a.safetensors")
    with use(idle):
        pass
    assert within_memory(exhausted, lambda: taken(CPU), what="a step") == 0
    with pytest.raises(OutOfMemory, match=r"memory ran out at a step, also after everything unused was freed \(CUDA"):
        within_memory(exhausted, what="a step")
    with pytest.raises(ZeroDivisionError):
        within_memory(lambda: 1 // 0, what="a step")


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_that_mean_memory_are_known(error: Exception, is_memory: bool) -> None:
    assert residency.is_exhausted(error) is is_memory


@pytest.fixture
def models(tmp_path: Path) -> ModelLibrary:
    tiny.save_sd15(tmp_path / "checkpoints/a.safetensors")
    return ModelLibrary(ModelFolders([tmp_path]), Devices(device=CPU, half=None))


def test_a_step_that_has_too_little_memory_attends_in_slices(
    models: ModelLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _, _ = models.checkpoint("a.safetensors")
    most = {"queries": 0}

    def small_only(q: Tensor, *args: Any, **options: Any) -> Tensor:
        if q.shape[-2] > 256:
            exhausted()
        most["queries"] = max(most["queries"], q.shape[-2])
        return right(q, *args, **options)

    right = torch.nn.functional.scaled_dot_product_attention
    x, context = torch.randn(1, 4, 32, 32), torch.randn(1, 77, 64)
    with torch.inference_mode(), use(model):
        whole = model.model.apply_model(x, torch.tensor([5.0]), c_crossattn=context)
        monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", small_only)
        sliced = model.model.apply_model(x, torch.tensor([5.0]), c_crossattn=context)
    assert most["queries"] == 256
    assert torch.allclose(whole, sliced, atol=1e-5)
    assert attention.__module__ == "limner.models.attention"


def test_after_a_step_without_memory_the_next_one_is_fine(models: ModelLibrary) -> None:
    model, _, _ = models.checkpoint("a.safetensors")
    block = model.model.diffusion_model.mid_block.resnets[0]
    hook = block.register_forward_pre_hook(exhausted)
    x, context = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 64)
    with torch.inference_mode():
        with use(model), pytest.raises(OutOfMemory, match=r"a step of a\.safetensors at 8x8x4x1|1x4x8x8"):
            model.model.apply_model(x, torch.tensor([5.0]), c_crossattn=context)
        hook.remove()
        with use(model):
            assert model.model.apply_model(x, torch.tensor([5.0]), c_crossattn=context).isfinite().all()


def test_placing_that_has_too_little_memory_leaves_the_model_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = halves(tmp_path / "a.safetensors")
    monkeypatch.setattr("limner.models.placement.Placement.place", exhausted)
    with pytest.raises(OutOfMemory, match="placing weights of 1 MiB"), use(user):
        pass
    monkeypatch.undo()
    assert user.module.weight.dtype == torch.float16
    with use(user):
        assert user.module.weight.dtype == torch.float32


def test_unloading_forgets_all_and_frees_the_device(models: ModelLibrary) -> None:
    model, _, vae = models.checkpoint("a.safetensors")
    vae.decode(torch.zeros(1, 4, 4, 4))
    with use(model):
        pass
    assert taken(CPU) > 0
    models.unload()
    assert (taken(CPU), models.resident()) == (0, [])


def test_files_stay_loaded_within_the_budget(tmp_path: Path) -> None:
    for name in "abc":
        tiny.save_vae(tmp_path / f"vae/{name}.safetensors")
    size = (tmp_path / "vae/a.safetensors").stat().st_size
    library = ModelLibrary(ModelFolders([tmp_path]), Devices(device=CPU, half=None))
    BUDGET.ram = 2 * size + 100
    first, second = library.vae("a.safetensors"), library.vae("b.safetensors")
    assert library.vae("a.safetensors") is first
    library.vae("c.safetensors")
    assert library.vae("a.safetensors") is first
    assert library.vae("b.safetensors") is not second


def test_a_file_that_has_changed_is_loaded_anew(tmp_path: Path) -> None:
    path = tiny.save_vae(tmp_path / "vae/a.safetensors")
    library = ModelLibrary(ModelFolders([tmp_path]), Devices(device=CPU, half=None))
    first, mark = library.vae("a.safetensors"), library.fingerprint("vae", "a.safetensors")
    tiny.save_vae(path, tiny.FLUX_VAE)
    second = library.vae("a.safetensors")
    assert (first.latents.channels, second.latents.channels) == (4, 16)
    assert library.fingerprint("vae", "a.safetensors") != mark
    assert library.fingerprint("vae", "b.safetensors") is None
