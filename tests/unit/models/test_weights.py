"""Weights mapped from files: how fp8 comes out, which layouts are refused, and what pickled files may hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from limner.errors import ModelFileError
from limner.models import pickled
from limner.models.checkpoint import read_header
from limner.models.weights import joined, open_weights, release

FP8 = torch.float8_e4m3fn


def saved(path: Path, weights: dict[str, Tensor], **metadata: str) -> Path:
    save_file({key: weight.clone() for key, weight in weights.items()}, path, metadata or None)
    return path


def test_tensors_are_those_of_the_file_in_every_dtype(tmp_path: Path) -> None:
    dtypes = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
    weights = {str(dtype): torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype) for dtype in dtypes}
    weights |= {"fp8": torch.randn(3, 5).to(FP8), "number": torch.tensor(3.0), "nothing": torch.zeros(0, 4)}
    path = saved(tmp_path / "a.safetensors", weights)
    found = open_weights(path).tensors()
    assert found.keys() == weights.keys()
    for key, right in load_file(path).items():
        assert (found[key].dtype, found[key].shape) == (right.dtype, right.shape)
        assert torch.equal(found[key].to(torch.float64), right.to(torch.float64))


def test_tensors_that_are_not_aligned_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    data = b"\x01" + torch.tensor([1.5, -2.0]).numpy().tobytes()
    entries = {
        "odd": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    raw = json.dumps(entries).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    assert open_weights(path).tensor("b").tolist() == [1.5, -2.0]


def test_a_header_that_lies_about_sizes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    raw = json.dumps({"a": {"dtype": "F32", "shape": [100], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(8))
    with pytest.raises(ModelFileError, match="header is damaged"):
        open_weights(path).tensor("a")


@pytest.mark.parametrize("offsets", [[8, 0], [-8, 0]])
def test_a_tensor_outside_of_the_file_is_refused(offsets: list[int], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    raw = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": offsets}}).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(8))
    with pytest.raises(ModelFileError, match="lies outside the file"):
        read_header(path)


def test_released_pages_come_back_when_they_are_used(tmp_path: Path) -> None:
    weight = torch.randn(512, 512)
    tensor = open_weights(saved(tmp_path / "a.safetensors", {"a": weight})).tensor("a")
    assert torch.equal(tensor, weight)
    release(tensor)
    assert torch.equal(tensor, weight)
    own = weight.clone()
    release(own)
    assert torch.equal(own, weight)


def test_a_part_of_a_file_and_files_joined(tmp_path: Path) -> None:
    one = open_weights(saved(tmp_path / "a.safetensors", {"x.a": torch.ones(1), "y.a": torch.zeros(1)}, k="v"))
    other = open_weights(saved(tmp_path / "b.safetensors", {"c": torch.full((1,), 2.0)}))
    part = one.under("x.")
    assert (list(part), part.header.metadata, part.header.part) == (["a"], {"k": "v"}, "x.")
    both = joined({"model.": part.renamed({"a": "b"}), "vae.": other}, one.header)
    assert {key: tensor.item() for key, tensor in both.tensors().items()} == {"model.b": 1, "vae.c": 2}
    assert both.header.size("vae.c") == 1


SCALED = {
    "one number": ({"w.scale_weight": torch.tensor(0.5), "scaled_fp8": torch.zeros(2, dtype=FP8)}, {}, 0.5),
    "as torchao": ({"w.weight_scale": torch.tensor([0.5]), "w.input_scale": torch.tensor(1.0)}, {}, 0.5),
    "a number a row": ({"w.weight_scale": torch.tensor([[0.5], [2.0]])}, {}, torch.tensor([[0.5], [2.0]])),
    "told in the metadata": (
        {"w.weight_scale": torch.tensor(0.25)},
        {"_quantization_metadata": json.dumps({"layers": {"w": {"format": "float8_e4m3fn"}}})},
        0.25,
    ),
    "told beside it": (
        {
            "w.weight_scale": torch.tensor(0.25),
            "w.comfy_quant": torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8),
        },
        {},
        0.25,
    ),
}


@pytest.mark.parametrize(("beside", "metadata", "scale"), SCALED.values(), ids=SCALED)
def test_scaled_fp8_comes_out_as_it_went_in(
    beside: dict[str, Tensor], metadata: dict[str, str], scale: Tensor | float, tmp_path: Path
) -> None:
    weight = torch.tensor([[1.0, -2.0], [0.5, 8.0]])
    path = saved(
        tmp_path / "a.safetensors", {"w.weight": weight.to(FP8), "w.bias": torch.ones(2), **beside}, **metadata
    )
    found = open_weights(path).tensors()
    assert set(found) == {"w.weight", "w.bias"}
    assert found["w.weight"].dtype == torch.bfloat16
    assert torch.equal(found["w.weight"].float(), weight * scale)


def test_plain_fp8_stays_as_it_is(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.safetensors", {"w.weight": torch.ones(2, 2).to(torch.float8_e5m2)})
    assert open_weights(path).tensors()["w.weight"].dtype == torch.float8_e5m2


BYTES = torch.zeros(2, 2, dtype=torch.uint8)
ROTATED = torch.tensor(list(b'{"format": "int8_tensorwise", "convrot": true}'), dtype=torch.uint8)
REFUSED = {
    "NF4": ({"w.weight": BYTES, "w.weight.quant_state.bitsandbytes__nf4": BYTES, "w.weight.absmax": BYTES}, "NF4"),
    "LLM.int8": ({"w.weight": BYTES.to(torch.int8), "w.SCB": torch.ones(2)}, r"LLM\.int8"),
    "NVFP4": ({"w.weight": BYTES, "w.weight_scale": torch.ones(2).to(FP8), "w.weight_scale_2": torch.ones(1)}, "NVFP4"),
    "NVFP4 without the second scale": ({"w.weight": BYTES, "w.weight_scale": torch.ones(2).to(FP8)}, "NVFP4"),
    "SVDQuant": ({"w.qweight": BYTES, "w.wscales": torch.ones(2)}, "SVDQuant"),
    "GPTQ": ({"w.qweight": BYTES, "w.qzeros": BYTES}, "GPTQ"),
    "fp8 in blocks": ({"w.weight": torch.ones(2, 2).to(FP8), "w.weight_scale_inv": torch.ones(1, 1)}, "each block"),
    "int8": ({"w.weight": BYTES.to(torch.int8), "w.weight_scale": torch.ones(2)}, "8 bits, whole numbers"),
    "rotated int8": ({"w.weight": BYTES.to(torch.int8), "w.comfy_quant": ROTATED}, "int8_tensorwise, rotated"),
}


@pytest.mark.parametrize(("weights", "layout"), REFUSED.values(), ids=REFUSED)
def test_other_quantised_layouts_are_refused_by_name(weights: dict[str, Tensor], layout: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.safetensors", weights)
    with pytest.raises(ModelFileError, match=rf"a\.safetensors cannot be used: .*{layout}.*use the same model in bf16"):
        open_weights(path).tensors()


def test_dtypes_that_torch_lacks_are_refused_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    raw = json.dumps({"a": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(2))
    with pytest.raises(ModelFileError, match=r"layout that is not read: F4 \(a\)"):
        open_weights(path)


@pytest.fixture
def pickles() -> Iterator[None]:
    pickled.allow(True)
    yield
    pickled.allow(False)


@pytest.mark.usefixtures("pickles")
@pytest.mark.parametrize("old", [False, True], ids=["zip", "before torch 1.6"])
def test_pickled_tensors_are_read_where_that_is_allowed(old: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    content = {"state_dict": {"w.weight": torch.ones(2, 3, dtype=torch.float16)}, "epoch": 3}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    weights = open_weights(path)
    assert (weights.header.shape("w.weight"), weights.header.dtypes["w.weight"]) == ((2, 3), "F16")
    assert torch.equal(weights.tensors()["w.weight"], content["state_dict"]["w.weight"])
    assert read_header(path).shape("w.weight") == (2, 3)


class Runs:
    """What a pickled file could do."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.mark.usefixtures("pickles")
def test_a_pickled_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    path, target = tmp_path / "a.ckpt", tmp_path / "was here"
    torch.save({"state_dict": {"w": torch.ones(1)}, "callback": Runs(target)}, path)
    with pytest.raises(ModelFileError, match=r"a\.ckpt cannot be used: .*objects beside its tensors.*convert it"):
        open_weights(path)
    assert not target.exists()


@pytest.mark.usefixtures("pickles")
@pytest.mark.parametrize("content", [b"PK\x03\x04 cut short", b"\x80\x02 neither"])
def test_a_damaged_pickled_file_is_told(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="it is damaged, or holds objects"):
        open_weights(path)


@pytest.mark.usefixtures("pickles")
def test_a_pickled_file_without_tensors_is_told(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "a.pt")
    with pytest.raises(ModelFileError, match="holds no tensors"):
        open_weights(tmp_path / "a.pt")


def test_pickled_files_are_refused_where_nothing_allows_them(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(ModelFileError, match="--allow-pickle"):
        open_weights(tmp_path / "a.pt")
