"""Weights: the tensors of a model file, mapped from the disk and read when they are used."""

from __future__ import annotations

import ctypes
import mmap
import weakref
from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from limner.models import pickled, quant
from limner.models.checkpoint import Header, header_of, read_header

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""How safetensors writes dtypes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """Tensors under the keys of `header`. names: what each key is called in the file. fetch: a tensor by that name."""

    header: Header
    names: Mapping[str, str]
    fetch: Callable[[str], Tensor]

    def __contains__(self, key: str) -> bool:
        return key in self.names

    def __bool__(self) -> bool:
        return bool(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def under(self, prefix: str) -> Weights:
        """Those whose keys begin with a prefix, without it."""
        names = {key.removeprefix(prefix): name for key, name in self.names.items() if key.startswith(prefix)}
        return replace(self, header=self.header.under(prefix), names=names)

    def renamed(self, keys: Mapping[str, str]) -> Weights:
        """The same tensors under other keys, old to new. What is not named is left out."""
        names = {new: self.names[old] for old, new in keys.items()}
        return replace(self, header=self.header.renamed(keys), names=names)

    def tensor(self, key: str) -> Tensor:
        """One tensor as the file has it."""
        return self.fetch(self.names[key])

    def tensors(self) -> dict[str, Tensor]:
        """All, in the file's precision. fp8 weights with a scale come as bfloat16, scaled, and the scales are left out.

        Raises ModelFileError for other quantised layouts.
        """
        quant.check(self.header, self.tensor)
        scales = quant.scales(self.header)
        found = {}
        for key in self.names:
            if quant.is_scale(key, scales):
                continue
            tensor = self.tensor(key)
            if key in scales:
                scaled = quant.dequantised(tensor, self.tensor(scales[key]))
                release(tensor)
                tensor = scaled
            found[key] = tensor
        return found


def joined(parts: Mapping[str | int, Weights], header: Header) -> Weights:
    """Several as one: the keys of each behind its prefix (as they are where that is a number). header: for the rest."""
    owners: dict[str, tuple[Weights, str]] = {}
    for prefix, part in parts.items():
        owners |= {f"{prefix if isinstance(prefix, str) else ''}{key}": (part, key) for key in part}
    whole = replace(
        header,
        shapes={name: part.header.shapes[key] for name, (part, key) in owners.items()},
        dtypes={name: part.header.dtypes[key] for name, (part, key) in owners.items()},
        places={},
        part="",
    )

    def fetch(name: str) -> Tensor:
        part, key = owners[name]
        return part.tensor(key)

    return Weights(header=whole, names={name: name for name in owners}, fetch=fetch)


def open_weights(path: Path) -> Weights:
    """The weights of a file, none of them read yet. Pickled ones only where that was allowed. Raises ModelFileError."""
    if pickled.allowed() and pickled.is_pickled(path):
        tensors = pickled.read(path)
        return Weights(header=header_of(path, tensors), names={key: key for key in tensors}, fetch=tensors.__getitem__)
    header = read_header(path)
    unknown = sorted(set(header.dtypes.values()) - set(DTYPES))
    if unknown:
        quant.refuse_unknown(header, unknown)
    fetch = _Mapped(header).tensor
    return Weights(header=header, names={key: key for key in header.shapes}, fetch=fetch)


class _Mapped:
    """A safetensors file in memory. Its pages are the page cache's: several processes share them."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self._map: mmap.mmap | None = None

    def tensor(self, key: str) -> Tensor:
        shape, dtype = self.header.shapes[key], DTYPES[self.header.dtypes[key]]
        start, end = self.header.places[key]
        if end - start != prod(shape) * dtype.itemsize:
            raise self.header.fault(f"its header is damaged ({key} has {end - start} bytes)")
        if start == end:
            return torch.empty(shape, dtype=dtype)
        with torch.inference_mode(False):
            if start % dtype.itemsize:  # old files need not be aligned
                return torch.frombuffer(self._bytes()[start:end], dtype=torch.uint8).clone().view(dtype).reshape(shape)
            return torch.frombuffer(self._bytes(), dtype=dtype, count=prod(shape), offset=start).reshape(shape)

    def _bytes(self) -> mmap.mmap:
        if self._map is None:
            try:
                with self.header.path.open("rb") as file:
                    self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            except (OSError, ValueError) as error:
                raise self.header.fault(f"it cannot be read ({error})") from error
            _MAPPED.add(self._map)
        return self._map


class _Ranges:
    """Where in memory files are mapped, as long as they are."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, mapped: mmap.mmap) -> None:
        start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        place = (start, start + len(mapped))
        insort(self._ranges, place)
        weakref.finalize(mapped, self._ranges.remove, place)

    def __contains__(self, address: int) -> bool:
        place = bisect_right(self._ranges, (address, 1 << 64)) - 1
        return place >= 0 and address < self._ranges[place][1]


_MAPPED = _Ranges()


def release(tensor: Tensor) -> None:
    """Lets go of the memory pages behind a tensor that is mapped from a file; they are read again when it is used."""
    if tensor.device.type != "cpu" or not tensor.numel() or tensor.data_ptr() not in _MAPPED:
        return
    first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        _libc().madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
