"""Nodes that read sounds from files and write them."""

from __future__ import annotations

from typing import Annotated, Any

from limner.engine.context import RunContext
from limner.errors import UnfitInput
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.types import Choices, InputFiles, Text
from limner.nodes.image.files import file_digest, temp_prefix
from limner.nodes.media.audio import sound
from limner.nodes.media.audio_files import FLAC, MP3_RATES, OPUS_RATES, AudioCodec, read_sound, write_sound
from limner.nodes.media.saving import ExtraInfo, Prompt, texts
from limner.nodes.sockets import Audio

MODULE, CATEGORY = "comfy_extras.nodes_audio", "audio"
Prefix = Annotated[str, Text()]
DEFAULT_PREFIX = "audio/ComfyUI"


class Recording(InputFiles):
    """A sound that the editor records and uploads."""

    def __init__(self) -> None:
        super().__init__("audio")
        self.type, self.options = "AUDIO_RECORD", {}


def _digest(ctx: RunContext, audio: str) -> str:
    return file_digest(ctx, audio)


@node("LoadAudio", display_name="Load Audio", category=CATEGORY, module=MODULE, fingerprint=_digest)
def load_audio(ctx: RunContext, *, audio: Annotated[str, InputFiles("audio")]) -> Audio:
    """Reads the sound of a file, or of a video. A file without one, or one that is cut short, is refused."""
    return read_sound(ctx.files.input(audio), audio)


@node("RecordAudio", display_name="Record Audio", category=CATEGORY, module=MODULE, fingerprint=_digest)
def record_audio(ctx: RunContext, *, audio: Annotated[str, Recording()]) -> Audio:
    """A sound recorded in the editor."""
    return read_sound(ctx.files.input(audio), audio)


@node("SaveAudio", display_name="Save Audio (FLAC)", category=CATEGORY, module=MODULE, outputs=(), output_node=True)
def save_flac(
    ctx: RunContext,
    *,
    audio: Audio,
    filename_prefix: Prefix = DEFAULT_PREFIX,
    prompt: Prompt = None,
    extra_pnginfo: ExtraInfo = None,
) -> Result:
    """Writes sounds as FLAC files of 24 bits, without loss, with the workflow that made them inside."""
    return _write(ctx, audio, "output", filename_prefix, texts(prompt, extra_pnginfo), FLAC, "flac")


@node("SaveAudioMP3", display_name="Save Audio (MP3)", category=CATEGORY, module=MODULE, outputs=(), output_node=True)
def save_mp3(
    ctx: RunContext,
    *,
    audio: Audio,
    filename_prefix: Prefix = DEFAULT_PREFIX,
    quality: Annotated[str, Choices("V0", "128k", "320k", options={"default": "V0"})] = "V0",
    prompt: Prompt = None,
    extra_pnginfo: ExtraInfo = None,
) -> Result:
    """Writes sounds as MP3 files, with the workflow inside. V0 is the best variable bit rate."""
    steady = {"128k": 128_000, "320k": 320_000}
    if quality not in ("V0", *steady):
        raise UnfitInput(f"the quality {quality!r:.50} is none of V0, 128k, 320k")
    codec = AudioCodec(
        name="libmp3lame",
        sample_format="fltp",
        rates=MP3_RATES,
        most_channels=2,
        bit_rate=steady.get(quality),
        options={} if quality in steady else {"flags": "+qscale", "global_quality": "0"},
    )
    return _write(ctx, audio, "output", filename_prefix, texts(prompt, extra_pnginfo), codec, "mp3")


@node("SaveAudioOpus", display_name="Save Audio (Opus)", category=CATEGORY, module=MODULE, outputs=(), output_node=True)
def save_opus(
    ctx: RunContext,
    *,
    audio: Audio,
    filename_prefix: Prefix = DEFAULT_PREFIX,
    quality: Annotated[str, Choices("64k", "96k", "128k", "192k", "320k", options={"default": "128k"})] = "128k",
    prompt: Prompt = None,
    extra_pnginfo: ExtraInfo = None,
) -> Result:
    """Writes sounds as Opus files, with the workflow inside. Opus knows no sample rate above 48,000 Hz."""
    rates = {"64k": 64_000, "96k": 96_000, "128k": 128_000, "192k": 192_000, "320k": 320_000}
    if quality not in rates:
        raise UnfitInput(f"the quality {quality!r:.50} is none of {', '.join(rates)}")
    codec = AudioCodec(name="libopus", sample_format="flt", rates=OPUS_RATES, bit_rate=rates[quality])
    return _write(ctx, audio, "output", filename_prefix, texts(prompt, extra_pnginfo), codec, "opus")


@node("PreviewAudio", display_name="Preview Audio", category=CATEGORY, module=MODULE, outputs=(), output_node=True)
def preview_audio(ctx: RunContext, *, audio: Audio, prompt: Prompt = None, extra_pnginfo: ExtraInfo = None) -> Result:
    """Lets sounds be heard; their files are temporary."""
    return _write(ctx, audio, "temp", temp_prefix(), texts(prompt, extra_pnginfo), FLAC, "flac")


def _write(
    ctx: RunContext, audio: Any, type: str, prefix: str, inside: dict[str, str], codec: AudioCodec, kind: str
) -> Result:
    waveform, rate = sound(audio)
    files = ctx.files.reserve(type=type, prefix=prefix, count=len(waveform), width=0, height=0, extension=f".{kind}")
    for each, file in zip(waveform, files, strict=True):
        write_sound(each, rate, file.path, codec, kind, inside)
    return Result(ui={"audio": [file.ui() for file in files]})
