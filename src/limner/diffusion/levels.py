"""Levels: the noise levels that a network was trained at, and how its timesteps name them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

NO_LEVEL_IS_HIGHER = 999999999.9

Number = TypeVar("Number", float, Tensor)


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """A table of sigmas: row t is the noise level of timestep t. Rising, (T,) float32.

    Between two rows log sigma is taken as linear in the timestep.
    """

    table: Tensor

    def __len__(self) -> int:
        return len(self.table)

    @property
    def low(self) -> float:
        return float(self.table[0])

    @property
    def high(self) -> float:
        return float(self.table[-1])

    def sigma(self, timestep: Tensor) -> Tensor:
        """The noise level of whole or fractional timesteps, clipped to the table's ends."""
        log = self.table.log().to(timestep.device)
        place = timestep.float().clamp(0, len(self) - 1)
        below, above, part = place.floor().long(), place.ceil().long(), place.frac()
        return ((1 - part) * log[below] + part * log[above]).exp()

    def timestep(self, sigma: Tensor) -> Tensor:
        """The row whose log sigma lies nearest, for each given level."""
        log = self.table.log().to(sigma.device)
        return (sigma.float().log().reshape(-1, 1) - log).abs().argmin(dim=1).reshape(sigma.shape)

    def at(self, done: float) -> float:
        """The level after this part (0..1) of the whole way down: beyond any level at 0, and 0 at 1."""
        if done <= 0:
            return NO_LEVEL_IS_HIGHER
        return 0.0 if done >= 1 else self._within(done)

    def _within(self, done: float) -> float:
        return float(self.sigma(torch.tensor((1 - done) * (len(self) - 1))))


class LogLevels(Levels):
    """Levels without steps between a lowest and a highest one, named by a quarter of their logarithm.

    Karras et al. 2022 (EDM), arXiv:2206.00364, table 1, c_noise.
    """

    __slots__ = ()

    def sigma(self, timestep: Tensor) -> Tensor:
        return (timestep * 4).exp()

    def timestep(self, sigma: Tensor) -> Tensor:
        return sigma.log() / 4

    def _within(self, done: float) -> float:
        return math.exp(math.log(self.high) + done * (math.log(self.low) - math.log(self.high)))


class AngleLevels(LogLevels):
    """Levels without steps, named by the angle between picture and noise, 1 for noise alone.

    Salimans and Ho 2022, arXiv:2202.00512, section 4, with the angle in right angles.
    """

    __slots__ = ()

    def sigma(self, timestep: Tensor) -> Tensor:
        return (timestep * math.pi / 2).tan()

    def timestep(self, sigma: Tensor) -> Tensor:
        return sigma.atan() / (math.pi / 2)


class OddsLevels(LogLevels):
    """Levels without steps, named by the part of the way to noise, s / (1 + s)."""

    __slots__ = ()

    def sigma(self, timestep: Tensor) -> Tensor:
        top = self.high / (1 + self.high)
        return torch.where(timestep >= top, self.high, timestep / (1 - timestep.clamp(max=top)))

    def timestep(self, sigma: Tensor) -> Tensor:
        return sigma / (1 + sigma)


@dataclass(frozen=True, slots=True, eq=False)
class DistilledLevels(Levels):
    """The levels that a distilled network was trained at: every `stride`-th of its teacher's, up to the highest."""

    stride: int

    def sigma(self, timestep: Tensor) -> Tensor:
        return Levels.sigma(self, (timestep - (self.stride - 1)) / self.stride)

    def timestep(self, sigma: Tensor) -> Tensor:
        return Levels.timestep(self, sigma) * self.stride + (self.stride - 1)

    def _within(self, done: float) -> float:
        return float(self.sigma(torch.tensor((1 - done) * (len(self) * self.stride - 1))))


@dataclass(frozen=True, slots=True, eq=False)
class CosineLevels(Levels):
    """Levels whose kept share of the picture falls as a squared cosine of the time, 0..1.

    Nichol and Dhariwal 2021, arXiv:2102.09672, equation 17, as in Pernias et al. 2023 (Wuerstchen), arXiv:2306.00637;
    a `shift` above 1 spends more of the way near the noise, Hoogeboom et al. 2023, arXiv:2301.11093, section 3.1.
    """

    shift: float

    def sigma(self, timestep: Tensor) -> Tensor:
        return _cosine_sigma(timestep, self.shift)

    def timestep(self, sigma: Tensor) -> Tensor:
        """The time at which there is this much noise without a shift, which is what the network goes by."""
        kept = 1 / (sigma**2 + 1)
        start = math.cos(COSINE_OFFSET / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
        return (kept * start).sqrt().acos() / (math.pi / 2) * (1 + COSINE_OFFSET) - COSINE_OFFSET

    def _within(self, done: float) -> float:
        return float(self.sigma(torch.tensor(1 - done)))


COSINE_OFFSET = 0.008


def _cosine_sigma(time: Tensor, shift: float) -> Tensor:
    start = math.cos(COSINE_OFFSET / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
    kept = ((time + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2).cos() ** 2 / start
    if shift != 1:
        kept = ((kept / (1 - kept)).log() + 2 * math.log(1 / shift)).sigmoid()
    kept = kept.clamp(0.0001, 0.9999)
    return ((1 - kept) / kept).sqrt()


@dataclass(frozen=True, slots=True, eq=False)
class FlowLevels(Levels):
    """Levels 0..1 of a straight path, with more of the way spent near the noise the larger `shift` is.

    full: the timestep of level 1. Esser et al. 2024, arXiv:2403.03206, section 5.3.2.
    """

    shift: float
    full: float

    def sigma(self, timestep: Tensor) -> Tensor:
        return shifted(timestep / self.full, self.shift)

    def timestep(self, sigma: Tensor) -> Tensor:
        return sigma * self.full

    def at(self, done: float) -> float:
        return float(shifted(1 - min(max(done, 0.0), 1.0), self.shift))


def shifted(even: Number, shift: float) -> Number:
    """Evenly spaced places 0..1 on a straight path, moved towards 1. Esser et al. 2024, equation 23."""
    return shift * even / (1 + (shift - 1) * even)


def straight(shift: float = 1.0, *, full: float = 1000.0, rows: int = 1000) -> FlowLevels:
    """The levels of a network that walks straight from noise to picture; `rows` of them stand in the table."""
    places = torch.arange(1, rows + 1, dtype=torch.float32) / rows * full
    return FlowLevels(shifted(places / full, shift), shift=shift, full=full)


def exponential_shift(mu: float, *, rows: int = 10000) -> FlowLevels:
    """The levels of Flux: the shift is given by its logarithm, and a level is its own timestep."""
    return straight(math.exp(mu), full=1.0, rows=rows)


def log_uniform(low: float, high: float, *, rows: int = 1000) -> LogLevels:
    """Levels without steps, as EDM networks know them."""
    return LogLevels(torch.linspace(math.log(low), math.log(high), rows).exp())


def angles(low: float, high: float, *, rows: int = 1000) -> AngleLevels:
    """Levels without steps, as networks that tell a velocity at any angle know them."""
    return AngleLevels(torch.linspace(math.log(low), math.log(high), rows).exp())


def odds(low: float, high: float, *, rows: int = 1000) -> OddsLevels:
    """Levels without steps, as flow networks over any levels know them."""
    return OddsLevels(torch.linspace(math.log(low), math.log(high), rows).exp())


def distilled(levels: Levels, *, rows: int = 50) -> DistilledLevels:
    """The levels of a network that was distilled to this many steps from one with a table of more."""
    stride = len(levels) // rows
    return DistilledLevels(levels.table[stride - 1 :: stride][:rows].clone(), stride=stride)


def cosine(shift: float = 1.0, *, rows: int = 10000) -> CosineLevels:
    """The levels of Stable Cascade."""
    times = torch.arange(1, rows + 1, dtype=torch.float32) / rows
    return CosineLevels(_cosine_sigma(times, shift), shift=shift)


def scaled_linear(low: float, high: float, *, steps: int) -> Levels:
    """The levels of a network whose betas rise linearly in their square root, from `low` to `high`.

    sigma² = (1 - a) / a, with a the running product of 1 - beta. Rombach et al. 2022, arXiv:2112.10752.
    """
    return _of_kept(_scaled_linear_kept(low, high, steps))


def zero_terminal(low: float, high: float, *, steps: int) -> Levels:
    """The levels of `scaled_linear`, stretched so that the highest is noise alone, or as near as float32 comes.

    Lin et al. 2024, arXiv:2305.08891, algorithm 1.
    """
    root = _scaled_linear_kept(low, high, steps).sqrt()
    kept = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    kept[-1] = HARDLY_ANY
    return _of_kept(kept)


HARDLY_ANY = 4.8973451890853435e-08
"""What a zero-terminal network keeps of the picture's variance at its highest level: sigma 4519, not infinity."""


def _scaled_linear_kept(low: float, high: float, steps: int) -> Tensor:
    betas = torch.linspace(math.sqrt(low), math.sqrt(high), steps, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(dim=0)


def _of_kept(kept: Tensor) -> Levels:
    return Levels(((1 - kept) / kept).sqrt().float())
