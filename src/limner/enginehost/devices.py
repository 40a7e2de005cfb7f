"""The devices of this engine, in the words of ComfyUI's /system_stats."""

from __future__ import annotations

from typing import Any

import psutil
import torch


def describe_devices(device: torch.device) -> list[dict[str, Any]]:
    """The device that networks run on, with its memory in bytes. On a CPU that is the machine's."""
    if device.type != "cuda":
        memory = psutil.virtual_memory()
        return [_entry("cpu", "cpu", None, memory.total, memory.available, memory.total, memory.available)]
    free, total = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device)
    used = torch.cuda.memory_allocated(device)
    name = f"cuda:{device.index or 0} {torch.cuda.get_device_name(device)} : native"
    return [_entry(name, "cuda", device.index or 0, total, free + held - used, held, held - used)]


def _entry(
    name: str, type: str, index: int | None, total: int, free: int, torch_total: int, torch_free: int
) -> dict[str, Any]:
    return {
        "name": name,
        "type": type,
        "index": index,
        "vram_total": total,
        "vram_free": free,
        "torch_vram_total": torch_total,
        "torch_vram_free": torch_free,
    }
