"""Quantised layouts: what a file's header says of them, which are read, and what to use in the place of the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from limner.models.checkpoint import Header

EIGHT_BIT_FLOATS = frozenset({"F8_E4M3", "F8_E5M2"})
WHOLE_NUMBERS = frozenset({"I8", "U8", "I16", "U16", "I32", "U32"})

SCALES = (".scale_weight", ".weight_scale")
"""The ends of the keys that hold the scale of `.weight`."""

BESIDE = (*SCALES, ".scale_input", ".input_scale", ".comfy_quant")
"""The ends of keys that tell of a weight's scale, and of its input's, which only matters to hardware that reads fp8."""

MARKER = "scaled_fp8"
READ_FORMATS = frozenset({"float8_e4m3fn", "float8_e5m2"})

LAYOUTS = (
    (".quant_state.bitsandbytes__nf4", "4 bits, NF4 of bitsandbytes"),
    (".quant_state.bitsandbytes__fp4", "4 bits, FP4 of bitsandbytes"),
    (".wscales", "4 bits, SVDQuant (Nunchaku)"),
    (".smooth_factor", "4 bits, SVDQuant (Nunchaku)"),
    (".qzeros", "4 bits, GPTQ or AWQ"),
    (".weight_scale_2", "4 bits, NVFP4"),
    (".weight_scale_inv", "fp8 with a scale for each block"),
    (".SCB", "8 bits, LLM.int8 of bitsandbytes"),
)
"""Ends of keys, and the layouts that only they occur in."""


def check(header: Header, tensor: Callable[[str], Tensor]) -> None:
    """Raises ModelFileError for a quantised layout that is not read, naming it. `tensor` gets a small tensor by key."""
    for end, layout in LAYOUTS:
        found = next((key for key in header.shapes if key.endswith(end)), None)
        if found is not None:
            raise _refusal(header, layout, found)
    for key, told in _told(header, tensor).items():
        kind = str(told.get("format", "")) if isinstance(told, dict) else ""
        if kind not in READ_FORMATS:
            rotated = ", rotated" if isinstance(told, dict) and any("rot" in name for name in told) else ""
            raise _refusal(header, f"{kind or 'unknown'}{rotated}", key)
    for key, dtype in header.dtypes.items():
        if dtype in WHOLE_NUMBERS and key.endswith(".weight") and len(header.shapes[key]) > 1:
            raise _refusal(header, _whole_numbers(header, key, dtype), key)


def scales(header: Header) -> dict[str, str]:
    """The key of each weight that is scaled, and the key of its scale."""
    found = {}
    for key in header.shapes:
        end = next((end for end in SCALES if key.endswith(end)), None)
        weight = f"{key.removesuffix(end)}.weight" if end else ""
        if end and header.dtypes.get(weight) in EIGHT_BIT_FLOATS:
            found[weight] = key
    return found


def is_scale(key: str, scales: Mapping[str, str]) -> bool:
    """Whether a key only tells how to read another one. scales: as `scales` gave them."""
    if key == MARKER:
        return True
    end = next((end for end in BESIDE if key.endswith(end)), None)
    return (end is not None and f"{key.removesuffix(end)}.weight" in scales) or key.endswith(".comfy_quant")


def dequantised(weight: Tensor, scale: Tensor) -> Tensor:
    """An fp8 weight times its scale, in bfloat16. scale: one number, or one for each row."""
    factor = scale.float()
    if factor.numel() > 1:
        factor = factor.reshape(-1, *[1] * (weight.ndim - 1))
    return (weight.float() * factor).to(torch.bfloat16)


def refuse_unknown(header: Header, dtypes: Sequence[str]) -> None:
    """Raises ModelFileError for dtypes that torch has no tensors of."""
    raise _refusal(header, " and ".join(dtypes), next(key for key in header.shapes if header.dtypes[key] in dtypes))


def _told(header: Header, tensor: Callable[[str], Tensor]) -> dict[str, object]:
    """What the file itself says of each quantised layer: in its metadata, or in a text beside each weight."""
    found: dict[str, object] = {}
    try:
        layers = json.loads(header.metadata.get("_quantization_metadata", "{}")).get("layers", {})
        found |= {str(key): told for key, told in layers.items()}
        for key in header.shapes:
            if key.endswith(".comfy_quant"):
                found[key.removesuffix(".comfy_quant")] = json.loads(bytes(tensor(key).tolist()))
    except (ValueError, AttributeError, TypeError) as error:
        raise header.fault(f"what it says of its quantised layers cannot be read ({error})") from error
    return found


def _whole_numbers(header: Header, key: str, dtype: str) -> str:
    layer = key.removesuffix("weight")
    if dtype == "U8" and header.dtypes.get(f"{layer}weight_scale", "").startswith("F8"):
        return "4 bits, NVFP4"
    return f"{'8 bits' if dtype in ('I8', 'U8') else dtype}, whole numbers with scales"


def _refusal(header: Header, layout: str, key: str) -> Exception:
    return header.fault(
        f"its weights are quantised in a layout that is not read: {layout} ({header.part}{key}); "
        "use the same model in bf16, fp16 or fp8 (fp8_scaled)"
    )
