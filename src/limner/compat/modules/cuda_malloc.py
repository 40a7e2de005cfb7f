"""ComfyUI chooses CUDA's allocator here. Limner leaves torch its own."""

from __future__ import annotations


def get_gpu_names() -> set[str]:
    """Names of the CUDA devices."""
    import torch

    return {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}


def cuda_malloc_supported() -> bool:
    return False
