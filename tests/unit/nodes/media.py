"""Sounds, pictures and media files for tests, and what is in the files that nodes write."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from limner.nodes import library
from tests.unit.nodes.contexts import Run, result_of, run_in

NODES = library.load()
TEXTS: dict[str, Any] = {"prompt": {"1": {"text": "ä"}}, "extra_pnginfo": {"workflow": {"nodes": [1, 2]}}}
INSIDE = {"prompt": '{"1": {"text": "\\u00e4"}}', "workflow": '{"nodes": [1, 2]}'}


def tone(seconds: float = 0.5, rate: int = 44100, hertz: tuple[float, ...] = (440.0, 660.0)) -> dict[str, Any]:
    """A sound of one steady tone for each channel."""
    times = torch.arange(round(seconds * rate)) / rate
    return {
        "waveform": torch.stack([0.5 * torch.sin(2 * math.pi * each * times) for each in hertz])[None],
        "sample_rate": rate,
    }


def moving(frames: int = 12, height: int = 48, width: int = 64) -> Tensor:
    """Pictures (B, H, W, 3) of a soft gradient that moves."""
    down, across = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([
        torch.stack([across, down, torch.full_like(down, number / frames)], dim=-1) * 0.8 + 0.1
        for number in range(frames)
    ])  # fmt: skip


def psnr(one: Tensor, other: Tensor) -> float:
    return -10 * math.log10(float(((one - other) ** 2).mean()) + 1e-12)


def call(name: str, folder: Path, **inputs: Any) -> tuple[Run, Any]:
    run = run_in(folder)
    return run, result_of(NODES[name], inputs, run.ctx)


def value(name: str, folder: Path, **inputs: Any) -> Any:
    (result,) = call(name, folder, **inputs)[1].values
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What FFmpeg finds in a file."""

    codecs: list[str]
    metadata: dict[str, str]
    frames: int
    samples: int
    rate: int | None
    channels: int | None
    bit_rate: int | None


def content(path: Path) -> Content:
    with av.open(str(path)) as container:
        sounds, videos = container.streams.audio, container.streams.video
        metadata = {**container.metadata}
        for stream in container.streams:
            metadata |= stream.metadata
        names = [stream.codec_context.codec.canonical_name for stream in (*videos, *sounds)]
        frames = samples = 0
        for frame in container.decode(*videos[:1], *sounds[:1]):
            frames += isinstance(frame, av.VideoFrame)
            samples += frame.samples if isinstance(frame, av.AudioFrame) else 0
        return Content(
            codecs=names,
            metadata={key.lower(): text for key, text in metadata.items()},
            frames=frames,
            samples=samples,
            rate=sounds[0].rate if sounds else None,
            channels=sounds[0].channels if sounds else None,
            bit_rate=sounds[0].bit_rate or container.bit_rate if sounds else None,
        )


def inside(path: Path) -> dict[str, str]:
    """The workflow's texts in a file."""
    found = content(path).metadata
    return {key: found[key] for key in INSIDE if key in found}


def write_wav(path: Path, values: np.ndarray, rate: int = 8000) -> None:
    """A WAV file of 16-bit values (channels, n)."""
    with av.open(str(path), "w", format="wav") as output:
        layout = "mono" if len(values) == 1 else "stereo"
        stream = output.add_stream("pcm_s16le", rate=rate)
        stream.layout = layout
        frame = av.AudioFrame.from_ndarray(values.astype(np.int16).T.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            output.mux(packet)
