"""Header: what a safetensors file holds, read without its weights. Faults are told before any memory is taken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from limner.errors import ModelFileError
from limner.models import pickled

LENGTH_BYTES = 8
HEADER_LIMIT_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The keys of a file with their shapes and dtypes ("F16", "BF16", ...), and its metadata.

    places: the first byte of each tensor in the file, and the one behind its last. part: what `under` was asked for.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    metadata: Mapping[str, str]
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    part: str = ""

    def __contains__(self, key: str) -> bool:
        return key in self.shapes

    def shape(self, key: str) -> tuple[int, ...] | None:
        """The shape of a tensor; None where there is none of this name."""
        return self.shapes.get(key)

    def size(self, key: str, dimension: int = 0) -> int:
        """One dimension of a tensor that the file must have. Raises ModelFileError."""
        shape = self.shapes.get(key)
        if shape is None or dimension >= len(shape):
            raise self.fault(f"it has no usable tensor {self.part}{key}")
        return shape[dimension]

    def has(self, prefix: str) -> bool:
        """Whether some key begins so."""
        return any(key.startswith(prefix) for key in self.shapes)

    def under(self, prefix: str) -> Header:
        """What the file holds behind a prefix, under keys without it. The metadata is the whole file's."""
        kept = {key: key.removeprefix(prefix) for key in self.shapes if key.startswith(prefix)}
        return replace(self.renamed(kept), part=self.part + prefix)

    def renamed(self, keys: Mapping[str, str]) -> Header:
        """The same tensors under other keys, old to new. What is not named is left out."""
        return replace(
            self,
            shapes={new: self.shapes[old] for old, new in keys.items()},
            dtypes={new: self.dtypes[old] for old, new in keys.items()},
            places={new: self.places[old] for old, new in keys.items() if old in self.places},
        )

    def count(self, pattern: str) -> int:
        """How many numbers in a row from 0 fill the `{}` of a pattern so that some key begins with it."""
        number = 0
        while self.has(pattern.format(number)):
            number += 1
        return number

    def told(self) -> dict[str, Any]:
        """What the metadata `limner.config` says: facts that shapes cannot tell, such as the number of heads."""
        try:
            told = json.loads(self.metadata.get("limner.config", "{}"))
        except ValueError as error:
            raise self.fault(f"its metadata limner.config is not JSON ({error})") from error
        if not isinstance(told, dict):
            raise self.fault("its metadata limner.config is not a JSON object")
        return told

    def number(self, *names: str) -> int | None:
        """A whole number above 0 that `told` has under these names, one inside the other; None where it has none."""
        value: Any = self.told()
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None and (not isinstance(value, int) or value < 1):
            raise self.fault(f"its metadata limner.config says {'.'.join(names)} = {value!r}, no number above 0")
        return value

    def fault(self, what: str) -> ModelFileError:
        """An error about this file."""
        return ModelFileError(f"{self.path.name} cannot be used: {what}", file=str(self.path))


def read_header(path: Path) -> Header:
    """The header of a safetensors file, checked against the file's size. For a pickled file that may be read, its keys.

    Raises ModelFileError for a file that is absent, cut short, pickled, or of another format.
    """
    if pickled.allowed() and path.is_file() and pickled.is_pickled(path):
        return header_of(path, pickled.read(path))
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
            length = int.from_bytes(start[:LENGTH_BYTES], "little")
            _check_start(path, start, length, size_bytes)
            file.seek(LENGTH_BYTES)
            raw = file.read(length)
    except FileNotFoundError as error:
        raise _fault(path, "there is no such file") from error
    except OSError as error:
        raise _fault(path, f"it cannot be read ({error.strerror})") from error
    try:
        entries = json.loads(raw)
        metadata = {str(key): str(value) for key, value in entries.pop("__metadata__", {}).items()}
        shapes = {key: tuple(int(size) for size in entry["shape"]) for key, entry in entries.items()}
        dtypes = {key: str(entry["dtype"]) for key, entry in entries.items()}
        offsets = {
            key: (int(entry["data_offsets"][0]), int(entry["data_offsets"][1])) for key, entry in entries.items()
        }
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise _fault(path, f"its safetensors header is damaged ({type(error).__name__}: {error})") from error
    data = LENGTH_BYTES + length
    places = {key: (data + first, data + end) for key, (first, end) in offsets.items()}
    odd = next((key for key, (first, end) in offsets.items() if not 0 <= first <= end), None)
    if odd is not None or any(size < 0 for shape in shapes.values() for size in shape):
        raise _fault(path, f"its safetensors header is damaged ({odd or 'a tensor'} lies outside the file)")
    wanted_bytes = max((end for _, end in places.values()), default=data)
    if wanted_bytes > size_bytes:
        raise _fault(path, f"it is cut short: {size_bytes} bytes of {wanted_bytes}; download or copy it again")
    if not shapes:
        raise _fault(path, "it holds no tensors")
    return Header(path=path, shapes=shapes, dtypes=dtypes, metadata=metadata, places=places)


def header_of(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Header:
    """The header that a safetensors file of these tensors would have."""
    return Header(
        path=path,
        shapes={key: tuple(tensor.shape) for key, tensor in tensors.items()},
        dtypes={key: pickled.DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype)) for key, tensor in tensors.items()},
        metadata=dict(metadata or {}),
    )


def _check_start(path: Path, start: bytes, length: int, size_bytes: int) -> None:
    """Raises ModelFileError where the first bytes show that this is no whole safetensors header."""
    if pickled.looks_pickled(start):
        raise _fault(
            path,
            "it is a pickled PyTorch file, which can run code; convert it to safetensors, or start Limner with "
            "--allow-pickle",
        )
    if start.startswith(b"version https://git-lfs"):
        raise _fault(path, "it is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    if start.startswith(b"GGUF"):
        raise _fault(
            path, "it is a GGUF file, whose quantised layouts are not read; use a safetensors file in fp16, bf16 or fp8"
        )
    if size_bytes <= LENGTH_BYTES:
        raise _fault(path, f"it is cut short: {size_bytes} bytes are no model")
    if start[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{" or length > HEADER_LIMIT_BYTES:
        raise _fault(path, "it is not a safetensors file")
    if LENGTH_BYTES + length > size_bytes:
        raise _fault(path, f"it is cut short: its header alone has {length} bytes, the file {size_bytes}")


def _fault(path: Path, what: str) -> ModelFileError:
    return ModelFileError(f"{path.name} cannot be used: {what}", file=str(path))
