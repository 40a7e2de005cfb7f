"""From the values of a picture to light, and what primaries they belong to."""

from __future__ import annotations

import torch
from torch import Tensor

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of red, green, blue and white."""

REC709: Chromaticities = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
REC2020: Chromaticities = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290)
AP1: Chromaticities = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)
"""Of ACEScg (S-2014-004)."""

HLG_A, HLG_B, HLG_C = 0.17883277, 0.28466892, 0.55991073
"""Of hybrid log-gamma (ITU-R BT.2100, table 5)."""


def light_of_srgb(values: Tensor) -> Tensor:
    """Linear light of sRGB values (IEC 61966-2-1); below 0 mirrored, above 1 by the same curve."""
    size = values.abs()
    light = torch.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4)
    return light.copysign(values)


def light_of_hlg(values: Tensor) -> Tensor:
    """Scene light 0..1 of hybrid log-gamma values (BT.2100); values below 0 are taken for 0."""
    size = values.clamp(min=0)
    return torch.where(size <= 0.5, size**2 / 3, (torch.exp((size - HLG_C) / HLG_A) + HLG_B) / 12)
