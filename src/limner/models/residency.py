"""What stays on the device, what makes room for what, and what happens when memory runs out."""

from __future__ import annotations

import gc
import itertools
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from limner.errors import OutOfMemory
from limner.models.device import total_ram
from limner.models.patcher import Patcher
from limner.models.placement import Placement, placement, placements

log = logging.getLogger(__name__)

T = TypeVar("T")

EXHAUSTED = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""What torch says when memory runs out where it has no error class for that."""


@dataclass(slots=True)
class Budget:
    """Bytes that weights may take, on the GPU and of this machine's memory; None where there is no limit.

    What is mapped from files does not count: the system takes such pages back by itself.
    """

    vram: int | None = None
    ram: int | None = None

    def of(self, device: torch.device) -> int | None:
        return self.ram if device.type == "cpu" else self.vram


BUDGET = Budget()

GB = 10**9
RESERVE_BYTES = 1 << 30
"""GPU memory that is left for what networks compute, where no budget was told."""

SHARE_OF_RAM = 0.6


def settle(*, vram_gb: float = 0.0, ram_gb: float = 0.0) -> None:
    """Sets the budgets once for this process; 0 stands for the default of the machine."""
    BUDGET.ram = round(ram_gb * GB) if ram_gb else round(total_ram() * SHARE_OF_RAM)
    if vram_gb:
        BUDGET.vram = round(vram_gb * GB)
    elif torch.cuda.is_available():
        BUDGET.vram = max(RESERVE_BYTES, torch.cuda.mem_get_info()[1] - RESERVE_BYTES)


_used: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
_count = itertools.count()
_busy: dict[nn.Module, list[Patcher]] = {}
"""The users whose blocks are running, the innermost last."""


@contextmanager
def use(*users: Patcher) -> Iterator[None]:
    """While the block runs, these are on their device, in their precision, with their patches applied.

    They stay there until others need the room: the least recently used go first. Weights of a network that is larger
    than the budget come to the device layer by layer, for each call anew. Weights are shared by all users of a module:
    of two with other patches the second takes the module over, to the end of its block. For one thread. Raises
    OutOfMemory where there is no room even after all others have gone.
    """
    latest = {user.module: user for user in users}
    for module, user in latest.items():
        _busy.setdefault(module, []).append(user)
        _used[module] = next(_count)
    try:
        for module, user in latest.items():
            _place(placement(module), user)
        yield
    finally:
        for module in latest:
            _busy[module].pop()
            if not _busy[module]:
                del _busy[module]
            else:  # an outer block goes on with this module
                _place(placement(module), _busy[module][-1])


def within_memory(first: Callable[[], T], second: Callable[[], T] | None = None, *, what: str) -> T:
    """What `first` gives. Where memory runs out, all that is unused is freed, and `second` (or `first`) tried once.

    second: does the same in less memory. what: for the error, such as "decoding 512x512". Raises OutOfMemory.
    """
    try:
        return first()
    except Exception as error:
        if not is_exhausted(error):
            raise
        log.warning("memory ran out at %s; what is unused is freed and it is tried again", what)
    free()  # outside of the handler, whose traceback holds what the attempt had allocated
    try:
        return (second or first)()
    except Exception as error:
        if not is_exhausted(error):
            raise
        reason = str(error).partition("\n")[0][:300]
    free()
    raise OutOfMemory(f"memory ran out at {what}, also after everything unused was freed ({reason})")


def is_exhausted(error: BaseException) -> bool:
    """Whether this error says that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in EXHAUSTED)


def free(wanted: int | None = None, device: torch.device | None = None) -> None:
    """Takes what is not in use now from the device (None: every one), the least recently used first.

    wanted: only until so many bytes have come back.
    """
    freed = 0
    for module, placed in _idle(device):
        if wanted is not None and freed >= wanted:
            break
        freed += placed.taken
        placed.go_home()
        _used.pop(module, None)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def taken(device: torch.device) -> int:
    """Bytes that weights take on a device beyond what is mapped from files."""
    return sum(placed.taken for placed in placements().values() if placed.device == device)


def _place(placed: Placement, user: Patcher) -> None:
    if placed.serves(user):
        return
    wanted, budget = placed.needs(user), BUDGET.of(user.load_device)
    over = 0 if budget is None else taken(user.load_device) + wanted - budget
    if wanted and over > 0:
        free(over, user.load_device)
    room = None if budget is None else max(0, budget - taken(user.load_device))
    try:
        within_memory(
            lambda: placed.place(user, room),
            lambda: placed.place(user, wanted // 2),
            what=f"placing weights of {wanted / 2**20:.0f} MiB",
        )
    except BaseException:
        placed.go_home()
        raise


def _idle(device: torch.device | None) -> list[tuple[nn.Module, Placement]]:
    """Modules that take memory and are not in use, the least recently used first."""
    found = [
        (module, placed)
        for module, placed in list(placements().items())
        if placed.taken and module not in _busy and (device is None or placed.device == device)
    ]
    return sorted(found, key=lambda each: _used.get(each[0], -1))
