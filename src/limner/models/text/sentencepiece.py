"""SentencePiece vocabularies (`spiece.model`) read into a tokenizer of the `tokenizers` library.

Kudo & Richardson 2018, arXiv:1808.06226. The file is a protocol buffer, `sentencepiece_model.proto`; only unigram
models are read, which is what T5 and its kin have.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNIGRAM = 1
UNKNOWN_PIECE = 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(slots=True)
class Vocabulary:
    """What the file says: pieces with their scores (logarithms of likelihood), and how text is made ready."""

    pieces: list[tuple[str, float]] = field(default_factory=list)
    unknown: int = 0
    model_type: int = UNIGRAM
    byte_fallback: bool = False
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True


def read_vocabulary(raw: bytes) -> Vocabulary:
    """Raises ValueError for bytes that are no SentencePiece model, or one that is not of the unigram kind."""
    vocabulary = Vocabulary()
    for number, value in _fields(raw):
        if number == 1 and isinstance(value, bytes):
            _add_piece(vocabulary, value)
        elif number == 2 and isinstance(value, bytes):
            _read_trainer(vocabulary, value)
        elif number == 3 and isinstance(value, bytes):
            _read_normalizer(vocabulary, value)
    if not vocabulary.pieces:
        raise ValueError("it holds no pieces")
    if vocabulary.model_type != UNIGRAM:
        raise ValueError("it is not of the unigram kind")
    return vocabulary


def tokenizer_of(raw: bytes) -> Tokenizer:
    """A tokenizer that cuts text as SentencePiece does, and adds no token of its own. Raises ValueError."""
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import Unigram

    vocabulary = read_vocabulary(raw)
    tokenizer = Tokenizer(Unigram(vocabulary.pieces, vocabulary.unknown, vocabulary.byte_fallback))
    steps: list[normalizers.Normalizer] = []
    if vocabulary.charsmap:
        steps.append(normalizers.Precompiled(vocabulary.charsmap))
    if vocabulary.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if steps:
        tokenizer.normalizer = normalizers.Sequence(steps)
    scheme = "always" if vocabulary.add_dummy_prefix else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme)
    return tokenizer


def _add_piece(vocabulary: Vocabulary, raw: bytes) -> None:
    piece, score = "", 0.0
    for number, value in _fields(raw):
        if number == 1 and isinstance(value, bytes):
            piece = value.decode()
        elif number == 2 and isinstance(value, float):
            score = value
        elif number == 3 and value == UNKNOWN_PIECE:
            vocabulary.unknown = len(vocabulary.pieces)
    vocabulary.pieces.append((piece, score))


def _read_trainer(vocabulary: Vocabulary, raw: bytes) -> None:
    for number, value in _fields(raw):
        if number == 3 and isinstance(value, int):
            vocabulary.model_type = value
        elif number == 35:
            vocabulary.byte_fallback = bool(value)


def _read_normalizer(vocabulary: Vocabulary, raw: bytes) -> None:
    for number, value in _fields(raw):
        if number == 2 and isinstance(value, bytes):
            vocabulary.charsmap = value
        elif number == 3:
            vocabulary.add_dummy_prefix = bool(value)
        elif number == 4:
            vocabulary.remove_extra_whitespaces = bool(value)


def _fields(raw: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """The fields of a protocol buffer message, by number. Raises ValueError where it is damaged."""
    place = 0
    while place < len(raw):
        tag, place = _varint(raw, place)
        number, kind = tag >> 3, tag & 7
        value: int | float | bytes
        if kind == VARINT:
            value, place = _varint(raw, place)
        elif kind == BYTES:
            length, place = _varint(raw, place)
            value, place = raw[place : place + length], place + length
        elif kind == FIXED32:
            value, place = struct.unpack_from("<f", raw, place)[0], place + 4
        elif kind == FIXED64:
            value, place = struct.unpack_from("<d", raw, place)[0], place + 8
        else:
            raise ValueError(f"it is damaged at byte {place}")
        if place > len(raw):
            raise ValueError("it is cut short")
        yield number, value


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(raw) and shift < 64:
        byte = raw[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if not byte & 0x80:
            return value, place
    raise ValueError("it is cut short")
