"""TextEncoder: a network that reads tokens, and which of its states are wanted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limner.errors import UnfitInput
from limner.models.keys import KeyMap
from limner.models.text.sections import Section

Ids = Callable[[str], Sequence[int]]
"""A text to its token ids, without start and end."""

SECTIONS_AT_ONCE = 16
"""Sections that go through a network together; a longer prompt goes in parts, so that it needs no more memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which states of an encoder a family takes.

    layer: counted from the last, -1; None for the last, and so is a layer before the first. normed: whether a chosen
    layer goes through the norm behind the last. projected: whether the pooled vector goes through the projection.
    """

    layer: int | None = None
    normed: bool = True
    projected: bool = True


class TextEncoder(nn.Module, ABC):
    """A text network of one kind, with the facts that cutting prompts for it needs.

    name: what its part of the whole encoder is called, by which LoRA files and embeddings find it (`clip_l`). width:
    of its states. ids: its tokenizer. start, end: the tokens around a text. length: places that it reads at a time;
    None where that has no end.
    """

    start: int | None = None
    end: int | None = None
    length: int | None = None

    def __init__(self, *, name: str, transformer: nn.Module, width: int, ids: Ids) -> None:
        super().__init__()
        self.name = name
        self.transformer = transformer
        self.width = width
        self.ids = ids

    @property
    @abstractmethod
    def table(self) -> nn.Embedding:
        """The embedding of its tokens."""

    @property
    @abstractmethod
    def keys(self) -> KeyMap:
        """Original keys (`clip_l.transformer.text_model...`) and where these weights lie below this module."""

    @abstractmethod
    def read(self, ids: Tensor, choice: Choice) -> tuple[Tensor, Tensor | None]:
        """States (N, L, width), and pooled vectors (N, P) if it has any. ids: (N, L) on the network's device."""

    def row(self, token: int) -> int:
        """Where a token's row lies in the table."""
        return token

    def forward(self, sections: Sequence[Section], choice: Choice) -> tuple[Tensor, Tensor | None]:
        """States (N, L, width) of N sections of equal length, and pooled vectors (N, P); float32 on the CPU."""
        with torch.inference_mode():
            parts = [
                self._part(sections[first : first + SECTIONS_AT_ONCE], choice)
                for first in range(0, len(sections), SECTIONS_AT_ONCE)
            ]
            pooled = [each for _, each in parts if each is not None]
            return torch.cat([states for states, _ in parts]), torch.cat(pooled) if pooled else None

    def _part(self, sections: Sequence[Section], choice: Choice) -> tuple[Tensor, Tensor | None]:
        ids = torch.tensor(
            [[self.row(token) if isinstance(token, int) else 0 for token, _ in section] for section in sections]
        )
        strange = ids[(ids < 0) | (ids >= self.table.num_embeddings)]
        if len(strange):
            raise UnfitInput(f"there is no token {int(strange[0])}; this text encoder has {self.table.num_embeddings}")
        with self._rows_in_place(sections):
            states, pooled = self.read(ids.to(self.table.weight.device), choice)
        return states.float().cpu(), None if pooled is None else pooled.float().cpu()

    @contextmanager
    def _rows_in_place(self, sections: Sequence[Section]) -> Iterator[None]:
        """While the block runs, the table gives learned rows where the sections have them."""
        learned = [
            (number, place, token)
            for number, section in enumerate(sections)
            for place, (token, _) in enumerate(section)
            if isinstance(token, Tensor)
        ]

        def put_rows(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            for number, place, row in learned:
                output[number, place] = row.to(output)
            return output

        hook = self.table.register_forward_hook(put_rows)
        try:
            yield
        finally:
            hook.remove()


def is_last(choice: Choice, layers: int) -> bool:
    """Whether the last layer is wanted, through its norm: none is named, or one that lies before the first."""
    return choice.layer is None or not 0 < -choice.layer <= layers
