"""Sections: a prompt as the rows of tokens that one text encoder reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from torch import Tensor

from limner.errors import UnfitInput
from limner.models.text.embeddings import FindEmbedding, split_embeddings
from limner.models.text.weights import unescaped, weighted_pieces

PROMPT_LIMIT = 20_000
"""Characters of a prompt: far more than any model heeds, and little enough that no text keeps an engine busy."""

LONG_PIECE = 8
"""From this many tokens on, a piece that does not fit a section is split; a shorter one moves whole to the next."""

Token = int | Tensor
"""A token id, or a learned row (width,) in its stead."""

Section = list[tuple[Token, float]]
"""Tokens with their weights."""

NumberedSection = list[tuple[Token, float, int]]
"""Tokens with their weights and the number of the piece that each is of: from 1, and 0 for start, end and padding."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cutter:
    """How prompts are cut for one encoder.

    ids: text to token ids, without start and end. length: places in a section with start and end among them; None
    where the whole prompt is one section. least: places that a section is padded to. padding: places that are added
    whatever its length. encoder, width: which rows of an embedding are for it. template: what the prompt stands in,
    as `{}`; such a prompt has no weights.
    """

    ids: Callable[[str], Sequence[int]]
    encoder: str
    width: int
    pad: int
    start: int | None = None
    end: int | None = None
    length: int | None = None
    least: int = 0
    padding: int = 0
    template: str | None = None

    def cut(self, prompt: str, embedding: FindEmbedding, *, disable_weights: bool = False) -> list[NumberedSection]:
        """The prompt in sections. Raises UnfitInput for what is no text, or more than `PROMPT_LIMIT` characters."""
        check(prompt)
        if self.template is not None:
            pieces = [(self.template.replace("{}", prompt), 1.0)]
        elif disable_weights:
            pieces = [(unescaped(prompt), 1.0)]
        else:
            pieces = weighted_pieces(prompt)
        return [self._framed(section) for section in self._filled(self._numbered(pieces, embedding))]

    def empty(self, places: int) -> Section:
        """The section of the empty prompt, padded to this many places."""
        frame = [(token, 1.0) for token in (self.start, self.end) if token is not None]
        return [*frame, *[(self.pad, 1.0)] * (places - len(frame))]

    def _numbered(self, pieces: list[tuple[str, float]], embedding: FindEmbedding) -> list[NumberedSection]:
        numbered: list[NumberedSection] = []
        number = count(1)
        for text, weight in pieces:
            for kind, part in [("text", text)] if self.template is not None else split_embeddings(text):
                tokens: Sequence[Token]
                if kind == "text":
                    tokens = self.ids(part) if part else ()
                else:
                    found = embedding(part)
                    rows = None if found is None else found.rows(self.encoder, self.width)
                    tokens = () if rows is None else list(rows)
                if len(tokens):
                    here = next(number)
                    numbered.append([(token, weight, here) for token in tokens])
        return numbered

    def _filled(self, pieces: list[NumberedSection]) -> list[NumberedSection]:
        """The pieces put into sections of as many tokens as fit between start and end."""
        if self.length is None:
            return [[place for piece in pieces for place in piece]]
        room = self.length - (self.start is not None) - (self.end is not None)
        sections: list[NumberedSection] = [[]]
        for piece in pieces:
            rest = piece
            while rest:
                free = room - len(sections[-1])
                if len(rest) <= free or len(piece) >= LONG_PIECE:
                    sections[-1] += rest[:free]
                    rest = rest[free:]
                if rest:
                    sections.append([])
        return sections

    def _framed(self, section: NumberedSection) -> NumberedSection:
        start = [] if self.start is None else [(self.start, 1.0, 0)]
        end = [] if self.end is None else [(self.end, 1.0, 0)]
        framed = [*start, *section, *end]
        wanted = max(len(framed) + self.padding, self.least, self.length or 0)
        return [*framed, *[(self.pad, 1.0, 0)] * (wanted - len(framed))]


def check(prompt: object) -> None:
    """Raises UnfitInput for what is no text, or too long a one."""
    if not isinstance(prompt, str):
        raise UnfitInput(f"the prompt is of type {type(prompt).__name__}, a text is needed")
    if len(prompt) > PROMPT_LIMIT:
        raise UnfitInput(f"the prompt has {len(prompt)} characters, {PROMPT_LIMIT} is the most")
