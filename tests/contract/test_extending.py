"""docs/extending.md: its code runs, and does what the page says. In processes of its own: nothing of it stays."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/extending.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)

NODE = """
import torch
from limner.graph.node import kind_of
info = kind_of(warm).spec.object_info()
assert info["input_order"]["required"] == ["image", "amount", "where"], info
assert info["output"] == ["IMAGE"]
class Ctx:
    def check(self): pass
grey = torch.full((1, 4, 4, 3), 0.5)
told = warm(Ctx(), image=grey, amount=0.5, where="everywhere")
assert told[0, 0, 0].tolist() == [0.6000000238418579, 0.5, 0.4000000059604645], told[0, 0, 0]
"""

SAMPLER = """
import math, torch
from limner.diffusion.samplers.base import SAMPLERS
def denoise(x, sigma):  # data of a normal distribution with this mean and spread 1
    return 0.5 + (x - 0.5) / (1 + sigma**2)
def error(steps):
    sigmas = torch.linspace(10, 0.1, steps + 1, dtype=torch.float64)
    start = torch.tensor([[[[3.0]]]], dtype=torch.float64)
    exact = 0.5 + (start - 0.5) * ((1 + 0.1**2) / (1 + 10.0**2)) ** 0.5
    return float((SAMPLERS["ralston"](denoise, start, sigmas) - exact).abs())
order = math.log2(error(200) / error(400))
assert abs(order - SAMPLERS["ralston"].order) < 0.1, order
"""

FAMILY = """
from limner.models.family import known
assert "nocturne" in [family.name for family in known()]
"""


@pytest.mark.parametrize(("block", "proof"), [*zip(BLOCKS, (NODE, SAMPLER, FAMILY), strict=True)])
def test_the_code_of_the_page_runs(block: str, proof: str) -> None:
    told = subprocess.run([sys.executable, "-c", f"{block}\n{proof}"], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
