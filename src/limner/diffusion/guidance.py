"""How conditional and unconditional answers of a network are joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from limner.diffusion.conditioning import Conditioning, fit_batch

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x, sigma, encoded texts for each item of x) to the clean x: a network with its scaling."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """A denoiser that goes `scale` times as far from the negative as the positive answer does.

    Ho and Salimans 2022, arXiv:2207.12598, with scale = 1 + w. At 1 the negative is not asked, unless `both` is.
    Several texts on one side are averaged. Texts of one length go through the network in one batch.
    """

    predict: Predict
    positive: Conditioning
    negative: Conditioning
    scale: float

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        if self.scale == 1:
            return torch.stack(_ask(self.predict, x, sigma, self.positive)).mean(dim=0)
        return self.both(x, sigma)[0]

    def both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The answer, and that to the negative alone."""
        answers = _ask(self.predict, x, sigma, [*self.positive, *self.negative])
        wanted = torch.stack(answers[: len(self.positive)]).mean(dim=0)
        unwanted = torch.stack(answers[len(self.positive) :]).mean(dim=0)
        return unwanted + (wanted - unwanted) * self.scale, unwanted


def _ask(predict: Predict, x: Tensor, sigma: Tensor, conditioning: Conditioning) -> list[Tensor]:
    answers: list[Tensor] = []
    contexts = [context for context, _ in conditioning]
    for _, group in groupby(contexts, key=lambda context: context.shape[1:]):
        same = [fit_batch(context, len(x)) for context in group]
        answers += predict(x.repeat(len(same), *[1] * (x.ndim - 1)), sigma, torch.cat(same)).chunk(len(same))
    return answers
