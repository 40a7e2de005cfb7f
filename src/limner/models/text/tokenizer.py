"""CLIP's byte-pair encoding. Radford et al. 2021, arXiv:2103.00020; the merges are OpenAI's (LICENSE-bpe.txt)."""

from __future__ import annotations

import gzip
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path

import regex

START, END = 49406, 49407
MERGES = 48_894  # with two forms of each byte and the two special tokens: a vocabulary of 49,408
VOCABULARY = Path(__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
SPECIAL = {"<|startoftext|>": START, "<|endoftext|>": END}
WORDS = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


class ClipTokenizer:
    """Text to token ids, 0..49407, without start and end. One instance serves every model: see `tokenizer()`."""

    def __init__(self, vocabulary: Path = VOCABULARY) -> None:
        with gzip.open(vocabulary, "rt", encoding="utf-8") as file:
            lines = file.read().split("\n")
        merges = [line.split() for line in lines[1 : MERGES + 1]]
        letters = _letters()
        pieces = [*letters.values(), *(letter + "</w>" for letter in letters.values()), *map("".join, merges)]
        self._letters = letters
        self._ids = {piece: number for number, piece in enumerate(pieces)}
        self._ranks = {(left, right): rank for rank, (left, right) in enumerate(merges)}
        self._known: dict[str, list[int]] = {}

    def __call__(self, text: str) -> list[int]:
        """Token ids of a text; letter case and the kind of white space make no difference."""
        clean = " ".join(unicodedata.normalize("NFC", text).split()).lower()
        return [token for word in WORDS.findall(clean) for token in self._word(word)]

    def _word(self, word: str) -> list[int]:
        if word in SPECIAL:
            return [SPECIAL[word]]
        if word not in self._known:
            if len(self._known) > 100_000:
                self._known.clear()
            self._known[word] = [self._ids[piece] for piece in self._merge(word)]
        return self._known[word]

    def _merge(self, word: str) -> list[str]:
        """The word's letters, joined pair by pair, the commonest pair first."""
        pieces = [self._letters[byte] for byte in word.encode(errors="replace")]  # half a surrogate pair becomes "?"
        pieces[-1] += "</w>"
        while len(pieces) > 1:
            best = min(set(pairwise(pieces)), key=lambda pair: self._ranks.get(pair, MERGES))
            if best not in self._ranks:
                break
            pieces = _joined(pieces, best)
        return pieces


@cache
def tokenizer() -> ClipTokenizer:
    """CLIP's tokenizer, read from disk at the first call."""
    return ClipTokenizer()


def _joined(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    """The pieces with each occurrence of the pair made one piece, from the left."""
    joined: list[str] = []
    rest = iter(range(len(pieces)))
    for place in rest:
        if tuple(pieces[place : place + 2]) == pair:
            joined.append("".join(pair))
            next(rest)
        else:
            joined.append(pieces[place])
    return joined


def _letters() -> dict[int, str]:
    """A printable letter for each byte, in the order of the vocabulary: printable bytes stand for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}
