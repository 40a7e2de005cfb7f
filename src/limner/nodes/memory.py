"""A look at the memory before a node asks for much of it: a refused node is better than a killed engine."""

from __future__ import annotations

import math

import psutil

from limner.errors import OutOfMemory

BYTES_PER_VALUE = 4


def check_room(*shape: int) -> None:
    """Raises OutOfMemory where a float32 tensor of this shape is larger than what the machine has left."""
    wanted, left = math.prod(shape) * BYTES_PER_VALUE, psutil.virtual_memory().available
    if wanted > left:
        size = " x ".join(str(edge) for edge in shape)
        raise OutOfMemory(f"{size} values need {wanted / 2**30:.1f} GiB, this machine has {left / 2**30:.1f} GiB left")
