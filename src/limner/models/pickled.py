"""Files of torch.save, which older models come in. They are read only where `--allow-pickle` was given.

torch's own restricted reader is used: it makes tensors and plain containers and runs nothing else. Files that need more
than it knows (trainer state, custom classes) are refused, since opening those would run their code.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.errors import ModelFileError
from limner.models.checkpoint import LENGTH_BYTES, PICKLED, Header

WITHIN = ("state_dict", "model", "params_ema", "params", "string_to_param")
"""Under which keys the weights of such files lie, where not at the top."""


_switch = {"allowed": False}


def allow(allowed: bool) -> None:
    """Whether this process reads pickled files; `--allow-pickle` says so, once, at its start."""
    _switch["allowed"] = allowed


def allowed() -> bool:
    return _switch["allowed"]


def is_pickled(path: Path) -> bool:
    """Whether the file begins as those of torch.save do. Raises ModelFileError where it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(LENGTH_BYTES + 1)
    except OSError as error:
        raise ModelFileError(f"{path.name} cannot be used: it cannot be read ({error.strerror})") from error
    return start.startswith(PICKLED) and start[LENGTH_BYTES:] != b"{"


def read(path: Path) -> tuple[Header, dict[str, Tensor]]:
    """The header and the tensors of a pickled file. Raises ModelFileError where it holds more than tensors."""
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise ModelFileError(
            f"{path.name} cannot be used: it is damaged, or holds objects beside its tensors, which only running its "
            f"code could read; convert it to safetensors ({str(error).splitlines()[0][:200]})",
            file=str(path),
        ) from error
    tensors = _tensors(loaded)
    if not tensors:
        raise ModelFileError(f"{path.name} cannot be used: it holds no tensors", file=str(path))
    header = Header(
        path=path,
        shapes={key: tuple(tensor.shape) for key, tensor in tensors.items()},
        dtypes={key: NAMES.get(tensor.dtype, str(tensor.dtype)) for key, tensor in tensors.items()},
        metadata={},
    )
    return header, tensors


def _tensors(loaded: Any) -> dict[str, Tensor]:
    if not isinstance(loaded, Mapping):
        return {}
    found = {str(key): each.contiguous() for key, each in loaded.items() if isinstance(each, Tensor)}
    for key in WITHIN:
        if isinstance(loaded.get(key), Mapping):
            return _tensors(loaded[key]) | found
    return found


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""As safetensors writes them."""
