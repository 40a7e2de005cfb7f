"""Devices: where networks run and in which precision, and how many threads the CPU gives them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

LARGE_NETWORK = 100_000_000
"""Parameters from which half precision pays on a CPU. Smaller networks are faster in float32, and cleaner."""

LARGE_TEXT_ENCODER = 1_000_000_000
"""Parameters from which the memory of float32 counts more than its precision."""

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where Linux tells a container how much of the processors it gets."""

MEMORY = Path("/sys/fs/cgroup/memory.max")
"""Where it tells how much of the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """The device that networks run on, and the precision for each kind."""

    device: torch.device
    half: torch.dtype | None  # the fast short type of this device, if it has one

    def network_dtype(self, parameters: int) -> torch.dtype:
        """For a denoising network with this many parameters."""
        if self.half is None or (self.device.type == "cpu" and parameters < LARGE_NETWORK):
            return torch.float32
        return self.half

    def wide_dtype(self, parameters: int) -> torch.dtype:
        """For networks whose values leave the range of float16, as those of Flux do."""
        if self.device.type == "cuda" and torch.cuda.is_bf16_supported():
            return torch.bfloat16
        wanted = self.network_dtype(parameters)
        return torch.float32 if wanted is torch.float16 else wanted

    def text_dtype(self, parameters: int = 0) -> torch.dtype:
        """For text encoders with this many parameters: they run once a prompt, so precision costs little but memory.

        Large ones (T5-XXL, Qwen3) run in bfloat16 where that pays, never in float16, which T5 overflows.
        """
        if parameters < LARGE_TEXT_ENCODER:
            return torch.float32
        if self.device.type == "cuda" and torch.cuda.is_bf16_supported():
            return torch.bfloat16
        return torch.bfloat16 if self.half is torch.bfloat16 else torch.float32

    def vae_dtype(self) -> torch.dtype:
        """For a VAE, whose pictures show banding in half precision on a CPU and overflow in float16."""
        if self.device.type == "cuda" and torch.cuda.is_bf16_supported():
            return torch.bfloat16
        return torch.float32


def choose() -> Devices:
    """The first CUDA device where there is one, else the CPU: in bfloat16 if it has instructions for it.

    Never float16 on a CPU: it is five to ten times slower there.
    """
    if torch.cuda.is_available():
        return Devices(device=torch.device("cuda", 0), half=torch.float16)
    return on_cpu()


def on_cpu() -> Devices:
    """The CPU, whatever else there is."""
    return Devices(device=torch.device("cpu"), half=torch.bfloat16 if _multiplies_bf16() else None)


def _multiplies_bf16() -> bool:
    """Whether this CPU has instructions for bfloat16. torch knows, under names that it may change."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def settle_threads(threads: int | None = None) -> int:
    """Sets torch's threads once for this process, and says how many. To be called before the first calculation.

    threads: as many, if told; else OMP_NUM_THREADS, else the cores that this process may use.
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    chosen = threads or (int(told) if told.isdigit() and int(told) > 0 else usable_cores())
    torch.set_num_threads(chosen)
    return chosen


def total_ram() -> int:
    """Bytes of memory that this process may have: the machine's, or what its container leaves it."""
    total = int(psutil.virtual_memory().total)
    try:
        told = MEMORY.read_text().strip()
    except OSError:
        return total
    return min(total, int(told)) if told.isdigit() else total


def usable_cores() -> int:
    """Cores that the scheduler and the container's quota leave to this process; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
