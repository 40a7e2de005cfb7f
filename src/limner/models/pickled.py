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

STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How files of torch.save begin: a zip archive, or a bare pickle."""

AFTER_LENGTH = 8
"""Where a safetensors file, whose first bytes are a number that may look like one of these, has its `{`."""

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
            start = file.read(AFTER_LENGTH + 1)
    except OSError as error:
        raise ModelFileError(f"{path.name} cannot be used: it cannot be read ({error.strerror})") from error
    return looks_pickled(start)


def looks_pickled(start: bytes) -> bool:
    """Whether the first bytes of a file, nine or more, are those of a torch.save."""
    return start.startswith(STARTS) and start[AFTER_LENGTH : AFTER_LENGTH + 1] != b"{"


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickled file. Raises ModelFileError where it holds more than tensors, or none."""
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
    return tensors


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


DTYPE_NAMES = {
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
