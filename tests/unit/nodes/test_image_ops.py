"""Every recorded run of a picture, mask or latent node, through the node itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.nodes.calling import values

FIXTURES = Path(__file__).parents[2] / "data/fixtures"
RUNS = json.loads((FIXTURES / "image_ops.json").read_text())["runs"]
ARRAYS = {name: torch.from_numpy(array) for name, array in np.load(FIXTURES / "image_ops.npz").items()}

NEAR = 1e-4
EIGHT_BITS = 1 / 255 + 1e-6
"""How near runs must come that go through pictures of 8 bits."""

NO_NAMES = ("mode", "operation", "channel", "spacing_color", "padding_color")
"""Inputs whose texts are never names of arrays."""


def arguments(run: dict[str, Any]) -> dict[str, Any]:
    given = {}
    for name, argument in run["args"].items():
        array = ARRAYS.get(f"in_{argument}") if isinstance(argument, str) and name not in NO_NAMES else None
        is_latent = isinstance(argument, str) and argument.startswith("lat")
        given[name] = argument if array is None else {"samples": array.clone()} if is_latent else array.clone()
    return given


def tolerance(run: dict[str, Any]) -> float:
    in_eight_bits = run["args"].get("upscale_method") == "lanczos" or run["node"] in ("ImageQuantize", "ImageStitch")
    return EIGHT_BITS if in_eight_bits else NEAR


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "-".join(map(str, [run["node"], *run["args"].values()])))
def test_a_node_gives_what_was_recorded(run: dict[str, Any]) -> None:
    given = arguments(run)
    before = {name: each["samples"] if isinstance(each, dict) else each for name, each in given.items()}
    before = {name: each.clone() for name, each in before.items() if isinstance(each, torch.Tensor)}
    got = values(run["node"], **given)
    assert len(got) == len(run["outputs"])
    for each, wanted in zip(got, run["outputs"], strict=True):
        tensor = each["samples"] if isinstance(each, dict) else each
        assert tensor.dtype == torch.float32
        assert list(tensor.shape) == wanted["shape"]
        assert torch.allclose(tensor, ARRAYS[wanted["key"]], rtol=0, atol=tolerance(run))
    for name, tensor in before.items():
        now = given[name]
        assert torch.equal(now["samples"] if isinstance(now, dict) else now, tensor), f"{name} was changed in place"


def test_every_run_is_there() -> None:
    assert len(RUNS) == 177
