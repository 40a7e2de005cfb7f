import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limner.errors import OutOfMemory, UnfitInput
from limner.nodes import library

FIXTURES = Path(__file__).parents[2] / "data/fixtures"
RUNS = json.loads((FIXTURES / "image_ops.json").read_text())["runs"]
ARRAYS = np.load(FIXTURES / "image_ops.npz")
NODES = library.load()


def call(name: str, **inputs: Any) -> Any:
    return NODES[name].call(inputs, ctx=None).values[0]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "-".join(map(str, [run["node"], *run["args"].values()])))
def test_a_node_gives_the_recorded_picture(run: dict) -> None:
    arguments = {
        name: torch.from_numpy(ARRAYS["in_img"]) if value == "img" else value for name, value in run["args"].items()
    }
    value, want = call(run["node"], **arguments), ARRAYS[run["outputs"][0]["key"]]
    got = value["samples"] if run["node"] == "EmptyLatentImage" else value
    near = 1 / 255 + 1e-6 if run["args"].get("upscale_method") == "lanczos" else 1e-5
    assert got.dtype == torch.float32
    assert tuple(got.shape) == want.shape
    assert np.abs(got.numpy() - want).max() <= near


def test_a_picture_scaled_to_nothing_on_both_edges_stays_as_it_is() -> None:
    image = torch.rand(1, 6, 8, 3)
    assert call("ImageScale", image=image, upscale_method="area", width=0, height=0, crop="center") is image


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"])
def test_a_batch_keeps_its_order(method: str) -> None:
    image = torch.tensor([0.2, 0.6])[:, None, None, None].expand(2, 6, 8, 3)
    scaled = call("ImageScale", image=image, upscale_method=method, width=4, height=4, crop="disabled")
    assert scaled.mean(dim=(1, 2, 3)).tolist() == pytest.approx([0.2, 0.6], abs=1e-6)


def test_an_empty_batch_cannot_be_scaled() -> None:
    with pytest.raises(UnfitInput, match="nothing to scale"):
        call("ImageScale", image=torch.zeros(0, 6, 8, 3), upscale_method="area", width=4, height=4, crop="disabled")


@pytest.mark.parametrize("shape", [(1, 2, 1, 3), (1, 1, 2, 3), (1, 1, 1, 3)])
def test_the_cut_leaves_something_of_the_smallest_picture(shape: tuple[int, ...]) -> None:
    for width, height in ((9000, 1), (1, 9000)):
        scaled = call(
            "ImageScale", image=torch.ones(shape), upscale_method="area", width=width, height=height, crop="center"
        )
        assert scaled.shape == (1, height, width, 3)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("EmptyImage", {"width": 16384, "height": 16384, "batch_size": 4096, "color": 0}),
        ("EmptyLatentImage", {"width": 16384, "height": 16384, "batch_size": 4096}),
    ],
)
def test_more_than_the_memory_is_refused_before_it_is_taken(name: str, inputs: dict) -> None:
    with pytest.raises(OutOfMemory, match="GiB"):
        call(name, **inputs)


def test_an_empty_latent_has_a_place_for_each_8_pixels() -> None:
    assert call("EmptyLatentImage", width=64, height=32, batch_size=2)["samples"].shape == (2, 4, 4, 8)
