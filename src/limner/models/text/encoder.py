"""TextEncoder: a network that reads tokens, and which of its states are wanted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor, nn

from limner.errors import OutOfMemory, UnfitInput
from limner.models.keys import KeyMap
from limner.models.text.sections import Section

Ids = Callable[[str], Sequence[int]]
"""A text to its token ids, without start and end."""

SECTIONS_AT_ONCE = 16
"""Sections that go through a network together; a longer prompt goes in parts, so that it needs no more memory."""

SCORES = 3
"""Tables of (heads, places, places) that attention has at a time: the scores, what is added, and their softmax."""


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
    None where that has no end. heads: of its attention.
    """

    start: int | None = None
    end: int | None = None
    length: int | None = None

    def __init__(self, *, name: str, transformer: nn.Module, width: int, ids: Ids, heads: int = 1) -> None:
        super().__init__()
        self.name = name
        self.transformer = transformer
        self.width = width
        self.ids = ids
        self.heads = heads

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

    def forward(
        self, sections: Sequence[Section], choice: Choice, *, at_once: int = SECTIONS_AT_ONCE
    ) -> tuple[Tensor, Tensor | None]:
        """States (N, L, width) of N sections of equal length, and pooled vectors (N, P); float32 on the CPU.

        at_once: sections that go through the network together. Raises UnfitInput for a token that there is not,
        OutOfMemory for a section that is too long for this machine.
        """
        with torch.inference_mode():
            if self.length is None:
                self._check_room(len(sections[0]))
                at_once = 1
            parts = [
                self._part(sections[first : first + at_once], choice) for first in range(0, len(sections), at_once)
            ]
            pooled = [each for _, each in parts if each is not None]
            return torch.cat([states for states, _ in parts]), torch.cat(pooled) if pooled else None

    def _check_room(self, places: int) -> None:
        """Raises OutOfMemory where attention over so many places needs more than this machine has left."""
        wanted = SCORES * self.heads * places**2 * self.table.weight.itemsize
        left = psutil.virtual_memory().available
        if self.table.weight.device.type == "cpu" and wanted > left:
            raise OutOfMemory(
                f"a prompt of {places} tokens needs {wanted / 2**30:.1f} GiB in the text encoder {self.name}, this "
                f"machine has {left / 2**30:.1f} GiB left; use a shorter one"
            )

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
