"""A look at the memory before a node asks for much of it: a refused node is better than a killed engine."""

from __future__ import annotations

import math

import psutil

from limner.errors import OutOfMemory, TooLarge
from limner.models.device import total_ram

BYTES_PER_VALUE = 4


def check_room(*shape: int) -> None:
    """Raises where a float32 tensor of this shape is larger than what the machine has: TooLarge for all of its memory,
    OutOfMemory for what is left of it now.
    """
    wanted = math.prod(shape) * BYTES_PER_VALUE
    if wanted > (total := total_ram()):
        raise TooLarge(f"{_size(shape)} values need {_gib(wanted)}, this machine has {_gib(total)} in all")
    if wanted > (left := psutil.virtual_memory().available):
        raise OutOfMemory(f"{_size(shape)} values need {_gib(wanted)}, this machine has {_gib(left)} left")


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(edge) for edge in shape)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
