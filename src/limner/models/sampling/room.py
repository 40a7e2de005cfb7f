"""Whether a batch fits into the memory that is left."""

from __future__ import annotations

import math
from collections.abc import Sequence

import psutil
import torch

from limner.models.model import BaseModel

VALUES_PER_PLACE = 40_000
"""How many values a large network holds at once for each place of its latent, all its layers' needs together.

An SD1.5 UNet has 320 channels there, a dozen kept skips, and eight times its width in a feed-forward layer.
"""


def fits(base: BaseModel, items: int, edges: Sequence[int]) -> bool:
    """Whether this many items of a latent with these edges go through the network at once."""
    wanted = items * math.prod(edges) * VALUES_PER_PLACE * base.dtype.itemsize
    return wanted <= free_bytes(base.device)


def free_bytes(device: torch.device) -> int:
    """What a device has left, memory included that torch holds without using it."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return psutil.virtual_memory().available
