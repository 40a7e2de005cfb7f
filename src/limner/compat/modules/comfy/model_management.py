"""Devices, precisions and memory as ComfyUI's nodes ask for them. What is loaded where is Limner's own business."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from enum import Enum
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from limner.compat.place import here
from limner.errors import Interrupted
from limner.models import residency
from limner.models.device import choose
from limner.models.library import ModelLibrary
from limner.models.patcher import Patcher

InterruptProcessingException = Interrupted
OOM_EXCEPTION: type[Exception] = torch.cuda.OutOfMemoryError
MIB = 1024 * 1024
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


class VRAMState(Enum):
    DISABLED = 0
    NO_VRAM = 1
    LOW_VRAM = 2
    NORMAL_VRAM = 3
    HIGH_VRAM = 4
    SHARED = 5


class CPUState(Enum):
    GPU = 0
    CPU = 1
    MPS = 2


_devices = choose()
_cpu = torch.device("cpu")
cpu_state = CPUState.CPU if _devices.device.type == "cpu" else CPUState.GPU
vram_state = VRAMState.DISABLED if cpu_state is CPUState.CPU else VRAMState.NORMAL_VRAM
set_vram_to = vram_state
current_loaded_models: list[Any] = []
XFORMERS_IS_AVAILABLE = False
XFORMERS_ENABLED_VAE = False
DISABLE_SMART_MEMORY = False
FORCE_FP32 = False
EXTRA_RESERVED_VRAM = 400 * MIB
lowvram_available = True
xpu_available = False
directml_enabled = False
total_vram = 0.0
total_ram = psutil.virtual_memory().total / MIB


def get_torch_device() -> torch.device:
    """Where networks run."""
    return _devices.device


def get_torch_device_name(device: Any) -> str:
    device = torch.device(device)
    return f"{device} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def intermediate_device() -> torch.device:
    """Where results lie between nodes."""
    return _cpu


def unet_offload_device() -> torch.device:
    return _cpu


def unet_inital_load_device(parameters: int, dtype: torch.dtype) -> torch.device:
    return _cpu


def text_encoder_device() -> torch.device:
    return _devices.device


def text_encoder_offload_device() -> torch.device:
    return _cpu


def text_encoder_initial_device(load_device: Any, offload_device: Any, model_size: int = 0) -> Any:
    return offload_device


def vae_device() -> torch.device:
    return _devices.device


def vae_offload_device() -> torch.device:
    return _cpu


def get_autocast_device(dev: Any) -> str:
    return str(getattr(dev, "type", "cuda"))


def is_device_type(device: Any, kind: str) -> bool:
    return getattr(device, "type", None) == kind


def is_device_cpu(device: Any) -> bool:
    return is_device_type(device, "cpu")


def is_device_mps(device: Any) -> bool:
    return is_device_type(device, "mps")


def is_device_cuda(device: Any) -> bool:
    return is_device_type(device, "cuda")


def is_device_xpu(device: Any) -> bool:
    return is_device_type(device, "xpu")


def is_nvidia() -> bool:
    return _devices.device.type == "cuda" and torch.version.cuda is not None


def is_amd() -> bool:
    return _devices.device.type == "cuda" and torch.version.hip is not None


def is_intel_xpu() -> bool:
    return False


def is_ascend_npu() -> bool:
    return False


def is_mlu() -> bool:
    return False


def is_directml_enabled() -> bool:
    return False


def cpu_mode() -> bool:
    return cpu_state is CPUState.CPU


def mps_mode() -> bool:
    return False


def get_total_memory(dev: Any = None, torch_total_too: bool = False) -> Any:
    """Bytes; with `torch_total_too` also those that torch holds."""
    device = torch.device(dev) if dev is not None else get_torch_device()
    if device.type != "cuda":
        total = psutil.virtual_memory().total
        return (total, total) if torch_total_too else total
    total = torch.cuda.mem_get_info(device)[1]
    return (total, torch.cuda.memory_reserved(device)) if torch_total_too else total


def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
    """Bytes that could be used now; with `torch_free_too` also those of them that torch holds already."""
    device = torch.device(dev) if dev is not None else get_torch_device()
    if device.type != "cuda":
        free = psutil.virtual_memory().available
        return (free, free) if torch_free_too else free
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + held
    return (free, held) if torch_free_too else free


def minimum_inference_memory() -> int:
    return 1024 * MIB


def extra_reserved_memory() -> int:
    return EXTRA_RESERVED_VRAM


def maximum_vram_for_weights(device: Any = None) -> float:
    return float(get_total_memory(device) * 0.88 - minimum_inference_memory())


def load_models_gpu(
    models: Sequence[Any],
    memory_required: int = 0,
    force_patch_weights: bool = False,
    minimum_memory_required: int | None = None,
    force_full_load: bool = False,
) -> None:
    """Brings models to the device on which they compute, with their patches; they stay until others need the room."""
    own = [model for model in models if isinstance(model, Patcher)]
    with residency.use(*own):
        for model in models:
            if model not in own and isinstance(inner := getattr(model, "model", model), nn.Module):
                inner.to(getattr(model, "load_device", get_torch_device()))


def load_model_gpu(model: Any) -> None:
    load_models_gpu([model])


def loaded_models(only_currently_used: bool = False) -> list[Any]:
    return [each.model for each in current_loaded_models]


def free_memory(memory_required: float, device: Any, keep_loaded: Sequence[Any] = ()) -> list[Any]:
    """Drops loaded models where less than this is free."""
    if get_free_memory(device) < memory_required:
        unload_all_models()
    return []


def unload_all_models() -> None:
    models = here().services.get(ModelLibrary)
    if models is not None:
        models.unload()
    soft_empty_cache()


def cleanup_models() -> None:
    """What nobody uses goes."""
    gc.collect()


def cleanup_models_gc() -> None:
    gc.collect()


def soft_empty_cache(force: bool = False) -> None:
    """Gives torch's unused device memory back."""
    if _devices.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.ipc_collect()  # type: ignore[no-untyped-call]


def should_use_fp16(
    device: Any = None,
    model_params: int = 0,
    prioritize_performance: bool = True,
    manual_cast: bool = False,
) -> bool:
    return torch.device(device or get_torch_device()).type == "cuda"


def should_use_bf16(
    device: Any = None,
    model_params: int = 0,
    prioritize_performance: bool = True,
    manual_cast: bool = False,
) -> bool:
    if torch.device(device or get_torch_device()).type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return _devices.half is torch.bfloat16


def supports_fp8_compute(device: Any = None) -> bool:
    return is_nvidia() and torch.cuda.get_device_capability(device) >= (8, 9)


def supports_dtype(device: Any, dtype: torch.dtype) -> bool:
    return dtype == torch.float32 or (not is_device_cpu(device) and dtype in DTYPES)


def supports_cast(device: Any, dtype: torch.dtype) -> bool:
    return dtype.is_floating_point


def unet_dtype(
    device: Any = None,
    model_params: int = 0,
    supported_dtypes: Sequence[torch.dtype] = DTYPES,
    weight_dtype: torch.dtype | None = None,
) -> torch.dtype:
    """In which precision a network of this size is kept."""
    wanted = _devices.network_dtype(model_params)
    return wanted if wanted in supported_dtypes else torch.float32


def unet_manual_cast(
    weight_dtype: torch.dtype | None,
    inference_device: Any,
    supported_dtypes: Sequence[torch.dtype] = DTYPES,
) -> torch.dtype | None:
    """In which precision to compute where it is not that of the weights; None where it is."""
    if weight_dtype == torch.float32:
        return None
    wanted = torch.float32 if is_device_cpu(inference_device) else (_devices.half or torch.float32)
    return None if wanted == weight_dtype else wanted


def text_encoder_dtype(device: Any = None) -> torch.dtype:
    return _devices.text_dtype()


def vae_dtype(device: Any = None, allowed_dtypes: Sequence[torch.dtype] = ()) -> torch.dtype:
    wanted = _devices.vae_dtype()
    return wanted if not allowed_dtypes or wanted in allowed_dtypes else torch.float32


def dtype_size(dtype: torch.dtype) -> int:
    return dtype.itemsize


def module_size(module: nn.Module) -> int:
    """Bytes of a module's weights."""
    return sum(each.nbytes for each in module.state_dict().values())


def device_supports_non_blocking(device: Any) -> bool:
    return is_device_cuda(device)


def device_should_use_non_blocking(device: Any) -> bool:
    return False


def cast_to(
    weight: Tensor,
    dtype: torch.dtype | None = None,
    device: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
    stream: Any = None,
) -> Tensor:
    """A weight in another precision and place; with `copy` never the weight itself."""
    return weight.to(device=device, dtype=dtype, non_blocking=non_blocking, copy=copy)


def cast_to_device(tensor: Tensor, device: Any, dtype: torch.dtype | None, copy: bool = False) -> Tensor:
    return cast_to(tensor, dtype=dtype, device=device, copy=copy)


def pick_weight_dtype(dtype: torch.dtype | None, fallback_dtype: torch.dtype, device: Any = None) -> torch.dtype:
    return fallback_dtype if dtype is None else dtype


def xformers_enabled() -> bool:
    return False


def xformers_enabled_vae() -> bool:
    return False


def sage_attention_enabled() -> bool:
    return False


def flash_attention_enabled() -> bool:
    return False


def pytorch_attention_enabled() -> bool:
    return True


def pytorch_attention_enabled_vae() -> bool:
    return True


def pytorch_attention_flash_attention() -> bool:
    return is_nvidia()


def force_upcast_attention_dtype() -> None:
    """Attention is not computed in another precision than the network."""


def processing_interrupted() -> bool:
    """Whether the run was asked to stop."""
    try:
        throw_exception_if_processing_interrupted()
    except Interrupted:
        return True
    return False


def throw_exception_if_processing_interrupted() -> None:
    ctx = here().running()
    if ctx is not None:
        ctx.check()


def interrupt_current_processing(value: bool = True) -> None:
    """Stops the run that goes on. A stop that was asked for is not taken back."""
    stop = here().stop
    if value and stop is not None:
        stop()
