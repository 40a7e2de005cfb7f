"""Tokenizers that come with a text encoder: inside its file, beside it, or in a `tokenizers` model folder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from limner.errors import ModelFileError
from limner.models.checkpoint import Header

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPIECE = "spiece_model"
"""Key of a tensor of bytes that some encoders hold: a whole `spiece.model`."""

FILES = ("tokenizer.json", "spiece.model")
SIZE_LIMIT_BYTES = 100 * 2**20


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer that is read at its first use. `read` raises ValueError where it is damaged. For any thread.

    entries: rows that the encoder's table has; ids beyond that would be another encoder's.
    """

    name: str
    read: Callable[[], Tokenizer]
    entries: int

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Raises ModelFileError where the file is no tokenizer, or that of another encoder."""
        with _READING:
            try:
                found = self.read()
            except Exception as error:  # the library raises bare Exceptions
                raise ModelFileError(f"{self.name} cannot be used: it is no tokenizer ({error})") from error
        found.no_padding()
        found.no_truncation()
        highest = max(found.get_vocab().values(), default=0)
        if highest >= self.entries:
            raise ModelFileError(
                f"{self.name} cannot be used: it has tokens up to {highest}, the text encoder has {self.entries} rows; "
                "it belongs to another encoder"
            )
        return found

    def __call__(self, text: str) -> list[int]:
        """Token ids of a text, without start and end."""
        readable = text.encode(errors="replace").decode()  # half a surrogate pair becomes "?"
        ids: list[int] = self.tokenizer.encode(readable, add_special_tokens=False).ids
        return ids


_READING = threading.Lock()


def find_vocabulary(
    header: Header, *, kind: str, entries: int, inside: Tensor | None, places: Sequence[Path]
) -> Vocabulary:
    """The tokenizer of the encoder in this file.

    inside: the tensor `spiece_model` of the file, if it has one. Else it is looked for as STEM.tokenizer.json,
    STEM.spiece.model, tokenizer.json or spiece.model beside the file; and in each of `places` in a folder `kind`,
    or as KIND.tokenizer.json, KIND.spiece.model. Raises ModelFileError, naming what to add, where there is none.
    """
    if inside is not None:
        raw = inside.contiguous().cpu().numpy().tobytes()
        return Vocabulary(f"{SPIECE} in {header.path.name}", lambda: _of_bytes(raw), entries)
    beside = [header.path.parent / f"{header.path.stem}.{name}" for name in FILES]
    beside += [header.path.parent / name for name in FILES]
    kept = [place / kind / name for place in places for name in FILES]
    kept += [place / f"{kind}.{name}" for place in places for name in FILES]
    found = next((path for path in (*beside, *kept) if path.is_file()), None)
    if found is None:
        where = places[0] / kind if places else header.path.parent
        raise header.fault(
            f"its tokenizer is missing: put tokenizer.json (or spiece.model) of the {kind} text encoder into {where}"
        )
    stat = found.stat()
    if stat.st_size > SIZE_LIMIT_BYTES:
        raise ModelFileError(f"{found.name} cannot be used: {stat.st_size} bytes are too many for a tokenizer")
    return Vocabulary(str(found), lambda: _of_file(found, stat.st_size, stat.st_mtime_ns), entries)


@lru_cache(maxsize=8)
def _of_file(path: Path, size_bytes: int, mtime_ns: int) -> Tokenizer:  # noqa: ARG001, a changed file is another one
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path)) if path.name.endswith(".json") else _of_bytes(path.read_bytes())


def _of_bytes(raw: bytes) -> Tokenizer:
    from limner.models.text.sentencepiece import tokenizer_of

    return tokenizer_of(raw)
