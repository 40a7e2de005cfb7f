"""Sounds between files and tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limner.errors import UnfitInput
from limner.nodes.media.audio import CHUNK, Audio, resampled
from limner.nodes.media.containers import opened, writing
from limner.nodes.memory import check_room

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer

LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""What FFmpeg calls a number of channels."""

FRAMES_BETWEEN_LOOKS = 1000

MOST_BITS_PER_CHANNEL = 256_000
"""A second, of Opus; the others stay below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioCodec:
    """How a sound is encoded. rates: those that the encoder takes, all where empty."""

    name: str
    sample_format: str
    rates: tuple[int, ...] = ()
    most_channels: int = 8
    bit_rate: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def rate_for(self, rate: int) -> int:
        """The lowest sample rate that it takes and that loses nothing; its highest where all would."""
        if not self.rates or rate in self.rates:
            return rate
        return min((each for each in self.rates if each > rate), default=max(self.rates))


FLAC = AudioCodec(name="flac", sample_format="s32")
AAC = AudioCodec(
    name="aac",
    sample_format="fltp",
    rates=(96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350),
    bit_rate=192_000,
)
OPUS_RATES = (48000, 24000, 16000, 12000, 8000)
MP3_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)


def read_sound(path: Path, name: str) -> Audio:
    """The first sound of a media file: a batch of one. Raises UnfitInput where there is none, or it is damaged."""
    with opened(path, name) as container:
        audio = decoded_sound(container)
    if audio is None:
        raise UnfitInput(f"{name} has no sound in it")
    return audio


def decoded_sound(container: InputContainer, begin: float | None = None) -> Audio | None:
    """The first sound of an open container; None where there is none.

    From its beginning, or from the time `begin` in seconds: what begins later has silence before it.
    """
    stream = next((each for each in container.streams.audio if each.codec_context is not None), None)
    if stream is None:
        return None
    rate, layout, channels = stream.rate, stream.layout.name, stream.layout.nb_channels
    if not rate:
        return None
    resampler = av.AudioResampler(format="flt", layout=layout, rate=rate)
    parts: list[np.ndarray] = []
    samples, first = 0, 0.0
    for number, frame in enumerate(container.decode(stream)):
        if number == 0 and begin is not None:
            first = (frame.time or 0.0) - begin
        for each in resampler.resample(frame):
            parts.append(each.to_ndarray())
            samples += each.samples
        if number % FRAMES_BETWEEN_LOOKS == 0:
            check_room(channels, samples)
    parts.extend(each.to_ndarray() for each in resampler.resample(None))
    if not parts:
        return None
    waveform = torch.from_numpy(np.concatenate(parts, axis=1).reshape(1, -1, channels)).transpose(1, 2).contiguous()
    offset = round(first * rate)
    waveform = waveform[..., -offset:] if offset < 0 else F.pad(waveform, (offset, 0))
    return {"waveform": waveform, "sample_rate": rate}


def write_sound(
    waveform: Tensor, rate: int, path: Path, codec: AudioCodec, container_format: str, texts: Mapping[str, str]
) -> None:
    """Writes one sound (channels, n) with these texts. Raises UnfitInput where the format cannot hold it."""
    if waveform.shape[-1] == 0:
        raise UnfitInput("a sound without a single sample cannot be written")
    with writing(f"the sound of {rate} Hz"), av.open(str(path), "w", format=container_format) as output:
        output.metadata.update(texts)
        stream = sound_stream(output, waveform, rate, codec)
        for packet in encoded_sound(stream, waveform, rate, codec):
            output.mux(packet)


def sound_stream(output: OutputContainer, waveform: Tensor, rate: int, codec: AudioCodec) -> AudioStream:
    """A stream of a new file for a sound (channels, n). Raises UnfitInput where it has too many channels."""
    channels = len(waveform)
    if channels not in LAYOUTS or channels > codec.most_channels:
        raise UnfitInput(f"{codec.name} holds 1 to {codec.most_channels} channels, and the sound has {channels}")
    stream = cast("AudioStream", output.add_stream(codec.name, rate=codec.rate_for(rate), options=dict(codec.options)))
    stream.codec_context.layout = LAYOUTS[channels]
    stream.codec_context.format = codec.sample_format
    if codec.bit_rate:
        stream.codec_context.bit_rate = min(codec.bit_rate, MOST_BITS_PER_CHANNEL * channels)
    return stream


def encoded_sound(stream: AudioStream, waveform: Tensor, rate: int, codec: AudioCodec) -> Iterator[av.Packet]:
    """The packets of a sound (channels, n): NaN is silence, and what is louder than 1 is cut."""
    wanted = codec.rate_for(rate)
    values = resampled(waveform.nan_to_num(0).clamp(-1, 1), rate, wanted).clamp(-1, 1).numpy()
    converter = av.AudioResampler(format=codec.sample_format, layout=LAYOUTS[len(waveform)], rate=wanted)
    for start in range(0, values.shape[-1], CHUNK):
        piece = np.ascontiguousarray(values[:, start : start + CHUNK].T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(piece, format="flt", layout=LAYOUTS[len(waveform)])
        frame.sample_rate, frame.pts = wanted, start
        for converted in converter.resample(frame):
            yield from stream.encode(converted)
    yield from stream.encode(None)
