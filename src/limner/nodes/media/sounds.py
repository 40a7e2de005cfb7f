"""Nodes that make and change sounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Choices, Float, Int, Marker
from limner.nodes.media.audio import HIGHEST_RATE, alike, sound
from limner.nodes.memory import check_room
from limner.nodes.sockets import Audio, Latent

MODULE, CATEGORY = "comfy_extras.nodes_audio", "audio"
LARGEST = 2**64 - 1

LATENT_CHANNELS, LATENT_RATE, LATENT_STRIDE = 64, 44100, 2048
"""Of the sound latents of Stable Audio: a place stands for 2,048 samples at 44,100 Hz, and lengths are even."""

Start = Annotated[float, Marker("FLOAT", {"default": 0.0, "min": -LARGEST, "max": LARGEST, "step": 0.01})]


@node("EmptyLatentAudio", display_name="Empty Latent Audio", category="latent/audio", module=MODULE)
def empty_latent_audio(
    *, seconds: Annotated[float, Float(1, 1000, step=0.1)] = 47.6, batch_size: Annotated[int, Int(1, 4096)] = 1
) -> Latent:
    """An empty latent of a sound: the start of new sounds of this length."""
    length = round(seconds * LATENT_RATE / LATENT_STRIDE / 2) * 2
    check_room(batch_size, LATENT_CHANNELS, length)
    return {"samples": torch.zeros(batch_size, LATENT_CHANNELS, length)}


@node("EmptyAudio", display_name="Empty Audio", category=CATEGORY, module=MODULE)
def empty_audio(
    *,
    duration: Annotated[float, Marker("FLOAT", {"default": 60.0, "min": 0.0, "max": LARGEST, "step": 0.01})],
    sample_rate: Annotated[int, Int()] = 44100,
    channels: Annotated[int, Int(1, 2)] = 2,
) -> Audio:
    """Silence of this many seconds."""
    if not 1 <= sample_rate <= HIGHEST_RATE:
        raise UnfitInput(f"a sample rate of {sample_rate} Hz; 1 to {HIGHEST_RATE} are possible")
    if not 0 <= duration < float("inf"):
        raise UnfitInput(f"a duration of {duration} seconds; it is a number of 0 or more")
    samples = round(duration * sample_rate)
    check_room(channels, samples)
    return {"waveform": torch.zeros(1, channels, samples), "sample_rate": sample_rate}


@node("TrimAudioDuration", display_name="Trim Audio Duration", category=CATEGORY, module=MODULE)
def trim_audio(
    *,
    audio: Audio,
    start_index: Start,
    duration: Annotated[float, Float(0, step=0.01)] = 60.0,
) -> Audio:
    """The part of a sound that begins at a time in seconds and lasts some seconds. A time below 0 counts from the end.

    What lies beyond the sound is left out; a part without anything in it is refused.
    """
    waveform, rate = sound(audio)
    length = waveform.shape[-1]
    first = _position(start_index + (length / rate if start_index < 0 else 0), rate, length)
    last = _position(start_index + (length / rate if start_index < 0 else 0) + duration, rate, length)
    if first >= last:
        raise UnfitInput(
            f"from {start_index:g} s, {duration:g} s of a sound of {length / rate:g} s: there is nothing in this part"
        )
    return {"waveform": waveform[..., first:last], "sample_rate": rate}


@node(
    "SplitAudioChannels",
    display_name="Split Audio Channels",
    category=CATEGORY,
    module=MODULE,
    outputs={"left": "AUDIO", "right": "AUDIO"},
)
def split_channels(*, audio: Audio) -> tuple[Audio, Audio]:
    """The left and the right channel of a stereo sound, each as a sound of its own."""
    waveform, rate = sound(audio)
    if waveform.shape[1] != 2:
        raise UnfitInput(f"the sound has {waveform.shape[1]} channel(s); a stereo sound has two")
    left, right = ({"waveform": waveform[:, side : side + 1], "sample_rate": rate} for side in (0, 1))
    return left, right  # type: ignore[return-value]


@node("AudioConcat", display_name="Audio Concat", category=CATEGORY, module=MODULE)
def concatenate_audio(
    *,
    audio1: Audio,
    audio2: Audio,
    direction: Annotated[str, Choices("after", "before", options={"default": "after"})],
) -> Audio:
    """Joins two sounds: the second one after the first, or before it.

    The lower sample rate is raised to the higher one, and a mono sound beside a stereo one becomes stereo.
    """
    first, second, rate = alike(audio1, audio2)
    check_room(*first.shape[:2], first.shape[-1] + second.shape[-1])
    order = (first, second) if direction == "after" else (second, first)
    return {"waveform": torch.cat(order, dim=-1), "sample_rate": rate}


@node("AudioMerge", display_name="Audio Merge", category=CATEGORY, module=MODULE)
def merge_audio(
    *,
    audio1: Audio,
    audio2: Audio,
    merge_method: Annotated[str, Choices("add", "mean", "subtract", "multiply", options={})],
) -> Audio:
    """Lays two sounds over each other. The second one is cut, or followed by silence, to the length of the first.

    Sample rates and channels are made alike as in Audio Concat. What becomes louder than 1 is made quieter as a whole.
    """
    first, second, rate = alike(audio1, audio2)
    length = first.shape[-1]
    second = torch.nn.functional.pad(second[..., :length], (0, max(0, length - second.shape[-1])))
    merged = _merged(first, second, merge_method)
    loudest = merged.abs().amax() if merged.numel() else torch.tensor(0.0)
    return {"waveform": merged / loudest if loudest > 1 else merged, "sample_rate": rate}


@node("AudioAdjustVolume", display_name="Audio Adjust Volume", category=CATEGORY, module=MODULE)
def adjust_volume(*, audio: Audio, volume: Annotated[int, Int(-100, 100)] = 1) -> Audio:
    """Makes a sound louder or, below 0, quieter, by so many decibels."""
    waveform, rate = sound(audio)
    return {"waveform": waveform if volume == 0 else waveform * 10 ** (volume / 20), "sample_rate": rate}


def _position(seconds: float, rate: int, length: int) -> int:
    return round(min(max(seconds * rate, 0), length))


def _merged(first: Tensor, second: Tensor, method: str) -> Tensor:
    merge: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "add": torch.add,
        "mean": lambda one, other: (one + other) / 2,
        "subtract": torch.sub,
        "multiply": torch.mul,
    }
    if method not in merge:
        raise UnfitInput(f"the way to merge {method!r:.100} is none of {', '.join(merge)}")
    return merge[method](first, second)
