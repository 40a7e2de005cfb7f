"""Encodings that are kept, so that a prompt which comes again need not be read again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence

from torch import Tensor

from limner.models.text.sections import Section

LIMIT_BYTES = 128 * 2**20

Value = tuple[Tensor, Tensor | None]


class EncodingCache:
    """The encodings of one set of weights, the least recently used forgotten first. For any thread."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._kept: OrderedDict[Hashable, Value] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        """A copy of what was kept under this key, so that no user of it can change it for another."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
        return found[0].clone(), None if found[1] is None else found[1].clone()

    def put(self, key: Hashable, value: Value) -> None:
        """Keeps an encoding that fits, and forgets others until it does."""
        size = _bytes(value)
        if size > self.limit_bytes:
            return
        with self._lock:
            if key in self._kept:
                self._bytes -= _bytes(self._kept.pop(key))
            while self._bytes + size > self.limit_bytes:
                self._bytes -= _bytes(self._kept.popitem(last=False)[1])
            self._kept[key] = value[0].clone(), None if value[1] is None else value[1].clone()
            self._bytes += size

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0


def identity(sections: Sequence[Section]) -> Hashable:
    """Equal for equal sections; learned rows count by what is in them."""
    return tuple(
        tuple((token if isinstance(token, int) else _digest(token), weight) for token, weight in section)
        for section in sections
    )


def _digest(row: Tensor) -> bytes:
    return hashlib.sha256(row.detach().float().cpu().contiguous().numpy().tobytes()).digest()


def _bytes(value: Value) -> int:
    return sum(each.nbytes for each in value if each is not None)
