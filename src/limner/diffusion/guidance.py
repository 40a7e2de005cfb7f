"""How conditional and unconditional answers of a network are joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from limner.diffusion.conditioning import Conditioning, fit_batch
from limner.diffusion.denoiser import Denoiser

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x, sigma, encoded texts for each item of x) to the clean x: a network with its scaling."""


def guided(predict: Predict, positive: Conditioning, negative: Conditioning, scale: float) -> Denoiser:
    """A denoiser that goes `scale` times as far from the negative as the positive answer does.

    Ho and Salimans 2022, arXiv:2207.12598, with scale = 1 + w. At 1 the negative is not asked at all. Several texts
    on one side are averaged. Texts of one length go through the network in one batch.
    """
    asked = list(positive) if scale == 1 else [*positive, *negative]

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        answers = _ask(predict, x, sigma, [context for context, _ in asked])
        wanted = torch.stack(answers[: len(positive)]).mean(dim=0)
        if scale == 1:
            return wanted
        unwanted = torch.stack(answers[len(positive) :]).mean(dim=0)
        return unwanted + (wanted - unwanted) * scale

    return denoise


def _ask(predict: Predict, x: Tensor, sigma: Tensor, contexts: Sequence[Tensor]) -> list[Tensor]:
    answers: list[Tensor] = []
    for _, group in groupby(contexts, key=lambda context: context.shape[1:]):
        same = [fit_batch(context, len(x)) for context in group]
        answers += predict(x.repeat(len(same), *[1] * (x.ndim - 1)), sigma, torch.cat(same)).chunk(len(same))
    return answers
