"""Clip: prompts into encodings, by CLIP's text network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from limner.errors import UnfitInput
from limner.models.text.embeddings import FindEmbedding, split_embeddings
from limner.models.text.tokenizer import END, START, tokenizer
from limner.models.text.weights import weighted_pieces

PROMPT_LIMIT = 20_000
"""Characters of a prompt: far more than any model heeds, and little enough that no text keeps an engine busy."""

LONG_PIECE = 8
"""From this many tokens on, a piece that does not fit a section is split; a shorter one moves whole to the next."""


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a section: a token id, or a learned row in its stead."""

    token: int
    weight: float = 1.0
    row: Tensor | None = None


Section = tuple[Place, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """What a CLIP socket carries.

    length: places in a section, start and end among them. rows: embedding row of each token that a small vocabulary
    has; None where a token's id is its row.
    """

    network: nn.Module
    length: int
    rows: Mapping[int, int] | None = None
    embedding: FindEmbedding = lambda name: None  # noqa: ARG005

    def tokenize(self, prompt: str) -> list[Section]:
        """The prompt in sections of `length` places: start, tokens, end, and ends up to the section's length.

        Raises UnfitInput for a prompt of more than `PROMPT_LIMIT` characters.
        """
        if len(prompt) > PROMPT_LIMIT:
            raise UnfitInput(f"the prompt has {len(prompt)} characters, {PROMPT_LIMIT} is the most")
        room = self.length - 2
        sections: list[list[Place]] = [[]]
        for piece in self._pieces(prompt):
            rest = piece
            while rest:
                free = room - len(sections[-1])
                if len(rest) <= free or len(piece) >= LONG_PIECE:
                    sections[-1] += rest[:free]
                    rest = rest[free:]
                if rest:
                    sections.append([])
        padding = [[Place(END)] * (1 + room - len(section)) for section in sections]
        return [(Place(START), *section, *ends) for section, ends in zip(sections, padding, strict=True)]

    def encode(self, prompt: str) -> tuple[Tensor, Tensor]:
        """The encoded prompt (1, sections * length, width), and its pooled vector (1, width); float32 on the CPU.

        A place of weight w becomes empty + w * (plain - empty), with the empty prompt's encoding at that place. The
        pooled vector is that of the first section, without weights.
        """
        sections = self.tokenize(prompt)
        weights = torch.tensor([[place.weight for place in section] for section in sections])
        if bool((weights == 1).all()):
            states, pooled = self._run(sections)
        else:
            states, pooled = self._run([*sections, *self.tokenize("")])
            states = apply_weights(states[:-1], states[-1:], weights)
        return states.reshape(1, -1, states.shape[-1]), pooled[:1]

    def _pieces(self, prompt: str) -> list[list[Place]]:
        pieces: list[list[Place]] = []
        for text, weight in weighted_pieces(prompt):
            for kind, part in split_embeddings(text):
                if kind == "text":
                    pieces.append([Place(token, weight) for token in tokenizer()(part)])
                else:
                    learned = self.embedding(part)
                    pieces.append([] if learned is None else [Place(END, weight, row) for row in learned])
        return pieces

    def _run(self, sections: list[Section]) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            ids = torch.tensor([[self._row(place.token) for place in section] for section in sections])
            learned = [
                (number, place, each.row)
                for number, section in enumerate(sections)
                for place, each in enumerate(section)
                if each.row is not None
            ]

            def put_rows(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
                for number, place, row in learned:
                    output[number, place] = row.to(output)
                return output

            table = cast(nn.Embedding, self.network.get_submodule("embeddings.token_embedding"))
            hook = table.register_forward_hook(put_rows)
            try:
                states = self.network(ids.to(table.weight.device)).last_hidden_state.float().cpu()
            finally:
                hook.remove()
            ends = [_end(section) for section in sections]
            return states, states[torch.arange(len(sections)), torch.tensor(ends)]

    def _row(self, token: int) -> int:
        return token if self.rows is None else self.rows.get(token, 0)


def apply_weights(states: Tensor, empty: Tensor, weights: Tensor) -> Tensor:
    """Encodings (N, L, W), each place drawn to or away from the empty prompt's (1, L, W) by its weight, (N, L)."""
    return torch.where(weights[..., None] == 1, states, empty + weights[..., None] * (states - empty))


def _end(section: Section) -> int:
    return next(number for number, place in enumerate(section) if place.token == END and place.row is None)
