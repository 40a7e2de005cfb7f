"""Sounds as nodes hand them on, and how different ones are made alike."""

from __future__ import annotations

from typing import Any, TypedDict

import av
import numpy as np
import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.nodes.memory import check_room

CHUNK = 1 << 16
"""Samples that are handed to the resampler at once."""

HIGHEST_RATE = 1_000_000


class Audio(TypedDict):
    """What an AUDIO socket carries. waveform: (B, channels, n) float32, mostly in -1..1; sample_rate: in Hz."""

    waveform: Tensor
    sample_rate: int


def sound(audio: Any, name: str = "audio") -> tuple[Tensor, int]:
    """The waveform (B, channels, n) float32 on the CPU, and its sample rate. Raises UnfitInput where it is no sound."""
    waveform, rate = (audio.get("waveform"), audio.get("sample_rate")) if isinstance(audio, dict) else (None, None)
    if not isinstance(waveform, Tensor) or waveform.ndim != 3 or 0 in waveform.shape[:2]:
        shape = tuple(waveform.shape) if isinstance(waveform, Tensor) else type(waveform).__name__
        raise UnfitInput(f"{name} is no sound: its waveform is {shape}, wanted is (batch, channels, samples)")
    if not isinstance(rate, int | float) or rate != int(rate) or not 1 <= rate <= HIGHEST_RATE:
        raise UnfitInput(f"{name} has the sample rate {rate!r:.50}; a whole number of 1 to {HIGHEST_RATE} Hz is wanted")
    return waveform.detach().float().cpu(), int(rate)


def resampled(waveform: Tensor, rate: int, wanted: int) -> Tensor:
    """A waveform (..., n) at another sample rate, (..., round(n * wanted / rate)), by libswresample."""
    if rate == wanted or waveform.shape[-1] == 0:
        return waveform
    length = round(waveform.shape[-1] * wanted / rate)
    check_room(*waveform.shape[:-1], length)
    rows = [_one_resampled(row.numpy(), rate, wanted, length) for row in waveform.reshape(-1, waveform.shape[-1])]
    return torch.stack(rows).reshape(*waveform.shape[:-1], length)


def alike(one: Any, other: Any) -> tuple[Tensor, Tensor, int]:
    """Two sounds with the higher of their sample rates, and with as many channels and as large a batch as the larger.

    One channel, or one item of a batch, is repeated. Raises UnfitInput for other mixtures.
    """
    (first, first_rate), (second, second_rate) = sound(one, "audio1"), sound(other, "audio2")
    rate = max(first_rate, second_rate)
    first, second = resampled(first, first_rate, rate), resampled(second, second_rate, rate)
    for dimension, what in ((0, "items in the batch"), (1, "channels")):
        sizes = first.shape[dimension], second.shape[dimension]
        if min(sizes) != max(sizes) and min(sizes) != 1:
            raise UnfitInput(f"audio1 has {sizes[0]} {what} and audio2 {sizes[1]}; one of them, or equally many, fit")
        first, second = (_repeated(each, dimension, max(sizes)) for each in (first, second))
    return first, second, rate


def _repeated(waveform: Tensor, dimension: int, count: int) -> Tensor:
    return waveform if waveform.shape[dimension] == count else waveform.repeat_interleave(count, dimension)


def _one_resampled(row: np.ndarray, rate: int, wanted: int, length: int) -> Tensor:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=wanted)
    parts: list[np.ndarray] = []
    for start in range(0, len(row), CHUNK):
        frame = av.AudioFrame.from_ndarray(row[None, start : start + CHUNK].copy(), format="flt", layout="mono")
        frame.sample_rate = rate
        parts.extend(each.to_ndarray()[0] for each in resampler.resample(frame))
    parts.extend(each.to_ndarray()[0] for each in resampler.resample(None))
    whole = np.concatenate(parts)[:length]
    return torch.from_numpy(np.pad(whole, (0, length - len(whole))))
