"""ComfyUI's options, at what they are by default there. Packs read them, and some set `preview_method`."""

from __future__ import annotations

from argparse import Namespace
from enum import Enum


class LatentPreviewMethod(Enum):
    NoPreviews = "none"
    Auto = "auto"
    Latent2RGB = "latent2rgb"
    TAESD = "taesd"

    @classmethod
    def from_string(cls, value: str) -> LatentPreviewMethod | None:
        return next((each for each in cls if each.value == value), None)


class PerformanceFeature(Enum):
    Fp16Accumulation = "fp16_accumulation"
    Fp8MatrixMultiplication = "fp8_matrix_mult"
    CublasOps = "cublas_ops"


args = Namespace(
    base_directory=None,
    cache_lru=0,
    cache_none=False,
    cpu=False,
    cpu_vae=False,
    default_device=None,
    deterministic=False,
    directml=None,
    disable_all_custom_nodes=False,
    disable_metadata=False,
    disable_smart_memory=False,
    disable_xformers=True,
    dont_upcast_attention=False,
    enable_cors_header=None,
    extra_model_paths_config=None,
    fast=set(),
    force_channels_last=False,
    force_fp16=False,
    force_fp32=False,
    force_upcast_attention=False,
    fp16_unet=False,
    fp16_vae=False,
    fp32_text_enc=False,
    fp32_unet=False,
    fp32_vae=False,
    front_end_root=None,
    gpu_only=False,
    highvram=False,
    input_directory=None,
    listen="127.0.0.1",
    lowvram=False,
    max_upload_size=100,
    mmap_torch_files=False,
    multi_user=False,
    normalvram=False,
    novram=False,
    output_directory=None,
    port=8188,
    preview_method=LatentPreviewMethod.Auto,
    preview_size=512,
    reserve_vram=None,
    temp_directory=None,
    use_flash_attention=False,
    use_pytorch_cross_attention=True,
    use_quad_cross_attention=False,
    use_sage_attention=False,
    use_split_cross_attention=False,
    user_directory=None,
    verbose="INFO",
    whitelist_custom_nodes=[],
    windows_standalone_build=False,
)
