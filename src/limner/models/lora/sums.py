"""What the tensors of a LoRA file add to one weight: a kind of product for each way of training.

All give the whole change at strength 1. Rank r, and alpha, which trainers put beside it: the change counts alpha / r.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from limner.models.patches import WeightPatch

Size = tuple[int, int]
"""A change as a matrix: outputs, and inputs times the places of a kernel."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sum(WeightPatch):
    """A change that comes from a file, so that it may not fit."""

    @abstractmethod
    def size(self) -> Size | None:
        """The size of the weight it is for; None where its own tensors do not go together."""

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether it can be added to a weight of this shape. A 1x1 kernel and a matrix count as the same."""
        return self.size() == (shape[0], prod(shape[1:]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LowRank(Sum):
    """up @ down. Hu et al. 2021, arXiv:2106.09685; for kernels and with a core as in LyCORIS, arXiv:2309.14859.

    up: (out, r[, 1, 1]). down: (r, in[, kernel]). core: (r, r, kernel), between 1x1 up and down (a Tucker product).
    """

    up: Tensor
    down: Tensor
    core: Tensor | None = None
    alpha: float | None = None

    def size(self) -> Size | None:
        rank = self.down.shape[0]
        if self.core is None:
            return (self.up.shape[0], self.down[0].numel()) if self.up[0].numel() == rank else None
        if self.up[0].numel() != self.core.shape[0] or self.core.shape[1] != rank:
            return None
        return self.up.shape[0], self.down[0].numel() * prod(self.core.shape[2:])

    def change(self, weight: Tensor) -> Tensor:
        up, down = (each.to(weight).flatten(1) for each in (self.up, self.down))
        if self.core is None:
            product = up @ down
        else:
            product = torch.einsum("oi,ij...,jc->oc...", up, self.core.to(weight), down)
        return product.reshape(weight.shape) * _scale(self.alpha, len(down))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hadamard(Sum):
    """LoHa: (a1 @ b1) * (a2 @ b2), value by value. Hyeon-Woo et al. 2021, arXiv:2108.06098.

    a: (out, r). b: (r, in). With cores (r, r, kernel), a is (r, out): each factor is a Tucker product.
    """

    a1: Tensor
    b1: Tensor
    a2: Tensor
    b2: Tensor
    core1: Tensor | None = None
    core2: Tensor | None = None
    alpha: float | None = None

    def size(self) -> Size | None:
        sizes = {
            _factor_size(a, b, core) for a, b, core in ((self.a1, self.b1, self.core1), (self.a2, self.b2, self.core2))
        }
        return sizes.pop() if len(sizes) == 1 else None

    def change(self, weight: Tensor) -> Tensor:
        first = _factor(self.a1, self.b1, self.core1, weight)
        second = _factor(self.a2, self.b2, self.core2, weight)
        return (first * second).reshape(weight.shape) * _scale(self.alpha, len(self.b1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """A factor of a Kronecker product: whole, or as a (n, r) @ b (r, m), or with a core as in `Hadamard`."""

    whole: Tensor | None = None
    a: Tensor | None = None
    b: Tensor | None = None
    core: Tensor | None = None

    def size(self) -> Size | None:
        if self.whole is not None:
            return self.whole.shape[0], self.whole[0].numel()
        assert self.a is not None
        assert self.b is not None
        return _factor_size(self.a, self.b, self.core)

    def at(self, weight: Tensor) -> Tensor:
        if self.whole is not None:
            return self.whole.to(weight)
        assert self.a is not None
        assert self.b is not None
        return _factor(self.a, self.b, self.core, weight)

    @property
    def rank(self) -> int | None:
        return None if self.b is None else len(self.b)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kronecker(Sum):
    """LoKr: the Kronecker product of a small and a large factor, the latter with the kernel. LyCORIS, arXiv:2309.14859.

    Counts alpha / r where a factor has a rank, else 1.
    """

    small: Part
    large: Part
    alpha: float | None = None

    def size(self) -> Size | None:
        small, large = self.small.size(), self.large.size()
        return None if small is None or large is None else (small[0] * large[0], small[1] * large[1])

    def change(self, weight: Tensor) -> Tensor:
        small, large = self.small.at(weight), self.large.at(weight)
        small = small.reshape(*small.shape, *[1] * (large.ndim - small.ndim))
        rank = self.large.rank or self.small.rank
        product = torch.kron(small, large.contiguous()).reshape(weight.shape)
        return product if rank is None else product * _scale(self.alpha, rank)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generalized(Sum):
    """GLoRA: weight @ a2 @ a1 + b2 @ b1. Chavan et al. 2023, arXiv:2306.07967.

    a1: (r, in). a2: (in, r). b1: (r, in). b2: (out, r).
    """

    a1: Tensor
    a2: Tensor
    b1: Tensor
    b2: Tensor
    alpha: float | None = None

    def size(self) -> Size | None:
        rank, inputs = self.a1.shape[0], self.a1[0].numel()
        whole = (
            tuple(self.a2.flatten(1).shape) == (inputs, rank)
            and tuple(self.b1.flatten(1).shape) == (rank, inputs)
            and self.b2[0].numel() == rank
        )
        return (self.b2.shape[0], inputs) if whole else None

    def change(self, weight: Tensor) -> Tensor:
        a1, a2, b1, b2 = (each.to(weight).flatten(1) for each in (self.a1, self.a2, self.b1, self.b2))
        product = weight.flatten(1) @ a2 @ a1 + b2 @ b1
        return product.reshape(weight.shape) * _scale(self.alpha, len(a1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Whole(Sum):
    """A change that is kept as it is: of a norm, of a bias, or a full difference."""

    difference: Tensor

    def size(self) -> Size | None:
        return self.difference.shape[0], prod(self.difference.shape[1:])

    def change(self, weight: Tensor) -> Tensor:
        return self.difference.to(weight).reshape(weight.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decomposed(Sum):
    """DoRA: the changed weight's directions, with learned lengths. Liu et al. 2024, arXiv:2402.09353, eq. 5.

    lengths: one per output, (out,) or (out, 1...), or one per input, (1, in, 1...).
    """

    directions: Sum
    lengths: Tensor

    def size(self) -> Size | None:
        return self.directions.size()

    def fits(self, shape: tuple[int, ...]) -> bool:
        return self.directions.fits(shape) and self.lengths.numel() in (shape[0], shape[1])

    def change(self, weight: Tensor) -> Tensor:
        moved = weight + self.directions.change(weight)
        axis = 0 if len(self.lengths) == len(weight) else 1
        others = [dim for dim in range(weight.ndim) if dim != axis]
        now: Tensor = torch.linalg.vector_norm(moved, dim=others, keepdim=True) + torch.finfo(moved.dtype).eps
        changed: Tensor = moved * (self.lengths.to(weight).reshape(now.shape) / now)
        return changed - weight


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows(WeightPatch):
    """A change to some rows of a weight, such as the q of a joined q, k and v; from `first` to before `end`."""

    inner: WeightPatch
    first: int
    end: int

    def change(self, weight: Tensor) -> Tensor:
        whole = torch.zeros_like(weight)
        whole[self.first : self.end] = self.inner.change(weight[self.first : self.end])
        return whole


def _scale(alpha: float | None, rank: int) -> float:
    return 1.0 if alpha is None else alpha / rank


def _factor_size(a: Tensor, b: Tensor, core: Tensor | None) -> Size | None:
    if core is None:
        return (a.shape[0], b[0].numel()) if a[0].numel() == len(b) else None
    if (len(a), len(b)) != tuple(core.shape[:2]):
        return None
    return a.shape[1], b.shape[1] * prod(core.shape[2:])


def _factor(a: Tensor, b: Tensor, core: Tensor | None, weight: Tensor) -> Tensor:
    a, b = a.to(weight), b.to(weight)
    return a @ b if core is None else torch.einsum("ij...,ip,jr->pr...", core.to(weight), a, b)
