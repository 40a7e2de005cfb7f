"""Nodes that read, make, cut and write videos."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any

import av

from limner.engine.context import RunContext
from limner.errors import UnfitInput
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.types import Choices, Flag, Float, InputFiles, Text
from limner.nodes.fitting import pictures
from limner.nodes.image.files import file_digest
from limner.nodes.media.audio import sound
from limner.nodes.media.containers import opened, writing
from limner.nodes.media.frames import VideoCodec, encoded_pictures, frame_rate, picture_stream, video_stream
from limner.nodes.media.saving import ExtraInfo, Prompt, texts
from limner.nodes.media.video import VideoCodec as Codecs
from limner.nodes.media.video import VideoComponents, VideoContainer, VideoFromComponents, VideoFromFile
from limner.nodes.sockets import Audio, Image, Number, Video

MODULE, CATEGORY = "comfy_extras.nodes_video", "image/video"


def _digest(ctx: RunContext, file: str) -> str:
    return file_digest(ctx, file)


@node(
    "SaveWEBM",
    category=CATEGORY,
    module=MODULE,
    schema_style=True,
    experimental=True,
    outputs=(),
    output_node=True,
)
def save_webm(
    ctx: RunContext,
    *,
    images: Image,
    filename_prefix: Annotated[str, Text()] = "ComfyUI",
    codec: Annotated[str, Choices("vp9", "av1")],
    fps: Annotated[float, Float(0.01, 1000, step=0.01)] = 24.0,
    crf: Annotated[float, Float(0, 63, step=1)] = 32.0,
    prompt: Prompt = None,
    extra_pnginfo: ExtraInfo = None,
) -> Result:
    """Writes pictures as a WebM video, with the workflow inside. A lower crf means better quality and a larger file."""
    _, height, width, _ = pictures(images, "images").shape
    encoders = {
        "vp9": VideoCodec(name="libvpx-vp9", options={"crf": str(int(crf)), "b": "0"}),
        "av1": VideoCodec(name="libsvtav1", options={"crf": str(int(crf)), "preset": "6"}),
    }
    if codec not in encoders:
        raise UnfitInput(f"the codec {codec!r:.50} is none of {', '.join(encoders)}")
    inside = texts(prompt, extra_pnginfo)
    (file,) = ctx.files.reserve(
        type="output", prefix=filename_prefix, count=1, width=width, height=height, extension=".webm"
    )
    with writing("the video"), av.open(str(file.path), "w", format="webm") as output:
        output.metadata.update(inside)
        stream = picture_stream(output, images, frame_rate(fps), encoders[codec])
        for packet in encoded_pictures(stream, images):
            output.mux(packet)
    return Result(ui={"images": [file.ui()], "animated": [True]})


@node(
    "SaveVideo",
    display_name="Save Video",
    category=CATEGORY,
    module=MODULE,
    schema_style=True,
    outputs=(),
    output_node=True,
)
def save_video(
    ctx: RunContext,
    *,
    video: Video,
    filename_prefix: Annotated[str, Text()] = "video/ComfyUI",
    format: Annotated[str, Choices(*VideoContainer.as_input())] = "auto",
    codec: Annotated[str, Choices(*Codecs.as_input())] = "auto",
    prompt: Prompt = None,
    extra_pnginfo: ExtraInfo = None,
) -> Result:
    """Writes a video as an MP4 file, with the workflow inside. What fits into one already is not encoded anew."""
    if format not in VideoContainer.as_input() or codec not in Codecs.as_input():
        raise UnfitInput(f"a video of the format {format!r:.50} and the codec {codec!r:.50} cannot be written")
    width, height = video.get_dimensions()
    inside = texts(prompt, extra_pnginfo)
    extension = f".{VideoContainer.get_extension(format)}"
    (file,) = ctx.files.reserve(
        type="output", prefix=filename_prefix, count=1, width=width, height=height, extension=extension
    )
    video.save_to(file.path, format=VideoContainer(format), codec=Codecs(codec), metadata=inside)
    return Result(ui={"images": [file.ui()], "animated": [True]})


@node("CreateVideo", display_name="Create Video", category=CATEGORY, module=MODULE, schema_style=True)
def create_video(
    *, images: Image, fps: Annotated[float, Float(1, 120, step=1)] = 30.0, audio: Audio | None = None
) -> Video:
    """Makes a video of pictures, so many a second, and of a sound, if there is one."""
    heard = None
    if audio is not None:
        waveform, rate = sound(audio)
        heard = {"waveform": waveform, "sample_rate": rate}
    return VideoFromComponents(VideoComponents(images=images, frame_rate=frame_rate(fps), audio=heard))  # type: ignore[arg-type]


@node(
    "GetVideoComponents",
    display_name="Get Video Components",
    category=CATEGORY,
    module=MODULE,
    schema_style=True,
    outputs={"images": "IMAGE", "audio": "AUDIO", "fps": "FLOAT"},
)
def get_components(*, video: Video) -> tuple[Image, Any, Number]:
    """A video's pictures, its sound (none where it is silent), and its pictures per second."""
    parts = video.get_components()
    return parts.images, parts.audio, float(Fraction(parts.frame_rate))


@node(
    "LoadVideo",
    display_name="Load Video",
    category=CATEGORY,
    module=MODULE,
    schema_style=True,
    fingerprint=_digest,
)
def load_video(ctx: RunContext, *, file: Annotated[str, InputFiles("video")]) -> Video:
    """Reads a video file. Its pictures are decoded when they are asked for; one without pictures is refused here."""
    path = ctx.files.input(file)
    with opened(path, file) as container:
        video_stream(container, file)
    return VideoFromFile(path, name=file)


@node("Video Slice", category=CATEGORY, module=MODULE, schema_style=True)
def slice_video(
    *,
    video: Video,
    start_time: Annotated[float, Float(-1e5, 1e5, step=0.001)] = 0.0,
    duration: Annotated[float, Float(0, step=0.001)] = 0.0,
    strict_duration: Annotated[bool, Flag()] = False,
) -> Video:
    """The part of a video that begins at a time and lasts some seconds, or goes to the end where that is 0.

    A time below 0 counts from the end. Where less is left, it is what is left, or an error if `strict_duration` is on.
    """
    part = video.as_trimmed(start_time, duration, strict_duration=strict_duration)
    if part is None:
        raise UnfitInput(
            f"the video lasts {video.get_duration():.3f} s: from {start_time:g} s there are not "
            + (f"{duration:g} s of it" if strict_duration and duration else "any pictures of it")
        )
    return part
