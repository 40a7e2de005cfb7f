import hashlib
import io
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from limner.errors import OutOfMemory, UnfitInput
from limner.nodes.media import containers, frames
from limner.nodes.media.video import VideoComponents, VideoContainer, VideoFromComponents, VideoFromFile, VideoInput
from tests.unit.nodes.contexts import run_in
from tests.unit.nodes.media import INSIDE, NODES, TEXTS, call, content, inside, moving, psnr, tone, value


def made(folder: Path, images: Tensor | None = None, fps: float = 24.0, audio: Any = None) -> VideoInput:
    inputs = {"images": moving() if images is None else images, "fps": fps} | ({"audio": audio} if audio else {})
    video = value("CreateVideo", folder, **inputs)
    assert isinstance(video, VideoInput)
    return video


def written(folder: Path, video: VideoInput, name: str = "v", **inputs: Any) -> Path:
    options = {"format": "auto", "codec": "auto", **inputs}
    _, result = call("SaveVideo", folder, video=video, filename_prefix=name, **options)
    return folder / str(result.ui["images"][0]["filename"])


def encoded(path: Path, images: Tensor, codec: str = "libx264", rate: int = 10, **options: Any) -> Path:
    """A file of pictures by FFmpeg alone."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=rate, options=options.get("options", {}))
        stream.width, stream.height, stream.pix_fmt = images.shape[2], images.shape[1], options.get("pixels", "yuv420p")
        for image in images:
            values = (image * 255).round().to(torch.uint8).numpy()
            for packet in stream.encode(av.VideoFrame.from_ndarray(values, format="rgb24")):
                output.mux(packet)
        output.mux(stream.encode(None))
    return path


def test_a_video_is_written_and_read_back(tmp_path: Path) -> None:
    images = moving(12)
    path = written(tmp_path, made(tmp_path, images, 24.0, tone(0.5)), **TEXTS)
    found = content(path)
    assert (path.suffix, found.codecs, found.frames) == (".mp4", ["h264", "aac"], 12)
    assert inside(path) == INSIDE
    _, result = call("GetVideoComponents", tmp_path, video=value("LoadVideo", tmp_path, file=path.name))
    back, audio, fps = result.values
    assert fps == 24.0
    assert back.shape == images.shape
    assert psnr(back, images) > 35
    assert (audio["sample_rate"], audio["waveform"].shape[:2]) == (44100, (1, 2))
    assert audio["waveform"].shape[-1] == pytest.approx(22050, abs=1100)
    assert psnr(audio["waveform"][..., 2000:20_000], tone(0.5)["waveform"][..., 2000:20_000]) > 30


def test_colours_stay_as_they_are(tmp_path: Path) -> None:
    patches = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0.5, 0.5, 0.5], [1, 1, 1], [0, 0, 0]])
    images = patches.repeat_interleave(16, 0).expand(2, 32, 112, 3)
    back = VideoFromFile(written(tmp_path, made(tmp_path, images))).get_components().images
    assert (back[0, 16, 8::16] - patches).abs().max() < 0.03


def test_a_video_without_sound_has_none(tmp_path: Path) -> None:
    components = VideoFromFile(written(tmp_path, made(tmp_path))).get_components()
    assert components.audio is None
    assert content(tmp_path / "v_00001_.mp4").codecs == ["h264"]


@pytest.mark.parametrize("fps", [1.0, 12.5, 23.976, 29.97, 60.0, 120.0])
def test_the_frame_rate_is_kept(fps: float, tmp_path: Path) -> None:
    video = VideoFromFile(written(tmp_path, made(tmp_path, moving(6, 16, 16), fps)))
    assert float(video.get_frame_rate()) == pytest.approx(fps, rel=1e-4)
    assert video.get_duration() == pytest.approx(6 / fps, rel=1e-3)
    assert video.get_frame_count() == 6


def test_an_odd_edge_gets_one_more_row(tmp_path: Path) -> None:
    images = moving(3, 33, 49)
    back = VideoFromFile(written(tmp_path, made(tmp_path, images)))
    assert back.get_dimensions() == (50, 34)
    assert psnr(back.get_components().images[:, :33, :49], images) > 30


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pictures_become_colours(channels: int, tmp_path: Path) -> None:
    images = torch.full((2, 16, 16, channels), 0.5)
    assert (VideoFromFile(written(tmp_path, made(tmp_path, images))).get_components().images - 0.5).abs().max() < 0.02


def test_what_fits_into_an_mp4_file_is_not_encoded_anew(tmp_path: Path) -> None:
    source = encoded(tmp_path / "a.mkv", moving())
    copy = written(tmp_path, value("LoadVideo", tmp_path, file="a.mkv"), **TEXTS)
    with av.open(str(source)) as one, av.open(str(copy)) as other:
        sizes = [[packet.size for packet in each.demux(video=0) if packet.size] for each in (one, other)]
    assert sizes[0] == sizes[1]
    assert inside(copy) == INSIDE


def test_a_copy_keeps_the_sound(tmp_path: Path) -> None:
    source = written(tmp_path, made(tmp_path, audio=tone(0.5)), "a")
    copy = written(tmp_path, VideoFromFile(source), "b", codec="h264")
    assert content(copy).codecs == ["h264", "aac"]
    assert content(copy).samples == content(source).samples


@pytest.mark.parametrize(
    ("name", "codec", "wanted", "kept"),
    [
        ("a.mkv", "libvpx-vp9", "auto", ["vp9"]),
        ("a.mkv", "libvpx-vp9", "h264", ["h264"]),
        ("a.avi", "mpeg4", "auto", ["h264"]),
        ("a.mkv", "ffv1", "auto", ["h264"]),
    ],
)
def test_what_does_not_fit_or_is_not_wanted_is_encoded_anew(
    name: str, codec: str, wanted: str, kept: list[str], tmp_path: Path
) -> None:
    images = moving(5)
    encoded(tmp_path / name, images, codec)
    path = written(tmp_path, value("LoadVideo", tmp_path, file=name), format="mp4", codec=wanted)
    assert content(path).codecs == kept
    assert psnr(VideoFromFile(path).get_components().images, images) > 25


def test_a_video_outlives_its_file_s_name(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.mp4", moving(4))
    video = value("LoadVideo", tmp_path, file="a.mp4")
    path.unlink()
    assert video.get_components().images.shape == (4, 48, 64, 3)
    assert video.as_trimmed(0.1).get_frame_count() == 3


def test_the_fingerprint_is_the_files_digest(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"whatever")
    found = NODES["LoadVideo"].fingerprint({"file": "a.mp4"}, run_in(tmp_path).ctx)
    assert found == hashlib.sha256(b"whatever").hexdigest()


@pytest.mark.parametrize("from_file", [True, False])
@pytest.mark.parametrize(
    ("start", "duration", "part"),
    [
        (0.0, 0.0, range(20)),
        (0.5, 0.0, range(5, 20)),
        (0.5, 0.7, range(5, 12)),
        (-0.5, 0.0, range(15, 20)),
        (1.8, 5.0, range(18, 20)),
        (-50.0, 0.3, range(3)),
    ],
)
def test_a_part_of_a_video_is_cut(from_file: bool, start: float, duration: float, part: range, tmp_path: Path) -> None:
    images = torch.arange(20)[:, None, None, None].expand(20, 16, 16, 3) / 25
    video = made(tmp_path, images, 10.0, tone(2.0, 8000))
    if from_file:
        video = VideoFromFile(written(tmp_path, video))
    cut = value("Video Slice", tmp_path, video=video, start_time=start, duration=duration)
    components = cut.get_components()
    assert [round(float(each) * 25) for each in components.images[:, 8, 8, 0]] == [*part]
    assert cut.get_duration() == pytest.approx(len(part) / 10, abs=0.01)
    assert cut.get_frame_count() == len(part)
    assert components.audio["waveform"].shape[-1] / 8000 == pytest.approx(len(part) / 10, abs=0.2)
    first, last = part[0] * 800, (part[-1] + 1) * 800
    expected = tone(2.0, 8000)["waveform"][..., first + 500 : last - 1500]
    heard = components.audio["waveform"][..., 500 : 500 + expected.shape[-1]]
    assert expected.shape[-1] < 400 or psnr(heard, expected) > 25


def test_parts_of_parts_are_cut(tmp_path: Path) -> None:
    images = torch.arange(20)[:, None, None, None].expand(20, 16, 16, 3) / 25
    whole = VideoFromFile(written(tmp_path, made(tmp_path, images, 10.0)))
    part = value("Video Slice", tmp_path, video=whole, start_time=0.5, duration=1.0)
    smaller = value("Video Slice", tmp_path, video=part, start_time=0.2, duration=0.3)
    path = written(tmp_path, smaller, "cut")
    back = VideoFromFile(path).get_components().images
    assert [round(float(each) * 25) for each in back[:, 8, 8, 0]] == [7, 8, 9]


@pytest.mark.parametrize(("start", "duration", "strict"), [(2.0, 0.0, False), (5.0, 1.0, False), (1.5, 1.0, True)])
@pytest.mark.parametrize("from_file", [True, False])
def test_a_part_that_is_not_there_is_refused(
    start: float, duration: float, strict: bool, from_file: bool, tmp_path: Path
) -> None:
    video = made(tmp_path, torch.zeros(20, 16, 16, 3), 10.0)
    if from_file:
        video = VideoFromFile(written(tmp_path, video))
    with pytest.raises(UnfitInput, match=r"the video lasts 2\.0"):
        call("Video Slice", tmp_path, video=video, start_time=start, duration=duration, strict_duration=strict)


def test_a_strict_part_that_is_there_is_cut(tmp_path: Path) -> None:
    video = made(tmp_path, torch.zeros(20, 16, 16, 3), 10.0)
    part = value("Video Slice", tmp_path, video=video, start_time=1.5, duration=0.5, strict_duration=True)
    assert part.get_frame_count() == 5


@pytest.mark.parametrize(("codec", "found"), [("vp9", "vp9"), ("av1", "av1")])
def test_a_webm_video_is_written(codec: str, found: str, tmp_path: Path) -> None:
    images = moving(6, 64, 80)
    options = {"codec": codec, "fps": 12.5, "crf": 15.0}
    run, result = call("SaveWEBM", tmp_path, images=images, filename_prefix="w", **options, **TEXTS)
    assert result.ui["animated"] == [True]
    path = tmp_path / result.ui["images"][0]["filename"]
    assert (path.suffix, content(path).codecs, content(path).frames) == (".webm", [found], 6)
    assert inside(path) == INSIDE
    assert run.files.reserved[0]["width"] == 80
    video = VideoFromFile(path)
    assert float(video.get_frame_rate()) == 12.5
    assert psnr(video.get_components().images, images) > 32


def test_a_higher_crf_makes_a_smaller_file(tmp_path: Path) -> None:
    noise = torch.rand(4, 64, 64, 3)
    sizes = []
    for crf in (5.0, 60.0):
        _, result = call("SaveWEBM", tmp_path, images=noise, filename_prefix=f"{crf}", codec="vp9", fps=4.0, crf=crf)
        sizes.append((tmp_path / result.ui["images"][0]["filename"]).stat().st_size)
    assert sizes[1] < sizes[0] / 3


def test_a_turned_video_is_shown_upright(tmp_path: Path) -> None:
    images = moving(2, 32, 64)
    source = encoded(tmp_path / "a.mp4", images, options={"crf": "5"})
    data = bytearray(source.read_bytes())
    at = data.index((0x00010000).to_bytes(4, "big") + bytes(12) + (0x00010000).to_bytes(4, "big"), data.index(b"tkhd"))
    quarter = [0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000]
    data[at : at + 36] = b"".join(each.to_bytes(4, "big", signed=True) for each in quarter)
    source.write_bytes(data)
    video = VideoFromFile(source)
    assert video.get_dimensions() == (32, 64)
    back = video.get_components().images
    assert back.shape == (2, 64, 32, 3)
    assert psnr(back, torch.rot90(images, k=-1, dims=(1, 2))) > 25


def test_ten_bits_and_full_colour_are_read(tmp_path: Path) -> None:
    images = moving(3)
    for number, pixels in enumerate(("yuv420p10le", "yuv444p", "yuv422p")):
        path = encoded(tmp_path / f"{number}.mkv", images, pixels=pixels, options={"crf": "5"})
        assert psnr(VideoFromFile(path).get_components().images, images) > 35


def test_a_silent_gap_before_the_sound_is_kept(tmp_path: Path) -> None:
    images, sound = moving(10), tone(0.5, 8000, (500.0,))["waveform"][0, 0].numpy()
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        for image in images:
            frame = av.VideoFrame.from_ndarray((image * 255).to(torch.uint8).numpy(), format="rgb24")
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        heard = av.AudioFrame.from_ndarray((sound * 32767).astype(np.int16)[None], format="s16", layout="mono")
        heard.sample_rate, heard.pts, heard.time_base = 8000, 2000, Fraction(1, 8000)
        output.mux(audio.encode(heard))
        output.mux(audio.encode(None))
    audio_back = VideoFromFile(path).get_components().audio
    assert audio_back is not None
    waveform = audio_back["waveform"][0, 0]
    assert waveform[:1990].abs().max() == 0
    assert np.allclose(waveform[2000:5900].numpy(), sound[:3900], atol=1e-3)


def test_a_stream_of_bytes_is_a_video_too(tmp_path: Path) -> None:
    data = written(tmp_path, made(tmp_path)).read_bytes()
    video = VideoFromFile(io.BytesIO(data))
    assert (video.get_frame_count(), video.get_dimensions()) == (12, (64, 48))
    assert "mp4" in video.get_container_format()
    source = video.get_stream_source()
    assert isinstance(source, io.BytesIO)
    assert VideoFromFile(source).get_components().images.shape == (12, 48, 64, 3)


def test_what_containers_are_written_is_told() -> None:
    assert VideoContainer.as_input() == ["auto", "mp4"]
    assert VideoContainer.get_extension("auto") == "mp4"


BAD = {
    "empty": b"",
    "text": b"no video " * 500,
    "noise": np.random.default_rng(0).bytes(5000),
    "playlist": b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n",
}


@pytest.mark.parametrize("bad", [*BAD, "cut short", "sound alone"])
def test_what_is_no_video_is_refused(bad: str, tmp_path: Path) -> None:
    contents = dict(BAD)
    if bad == "cut short":
        contents[bad] = encoded(tmp_path / "a.mp4", moving()).read_bytes()[:-500]
    elif bad == "sound alone":
        call("SaveAudio", tmp_path, audio=tone(0.1), filename_prefix="s")
        contents[bad] = (tmp_path / "s_00001_.flac").read_bytes()
    (tmp_path / "bad.mp4").write_bytes(contents[bad])
    with pytest.raises(UnfitInput, match=r"bad\.mp4 (is no sound or video|has no pictures)"):
        value("LoadVideo", tmp_path, file="bad.mp4")


def test_pictures_or_sounds_of_an_unknown_codec_are_not_there(tmp_path: Path) -> None:
    data = written(tmp_path, made(tmp_path, audio=tone(0.5)), "a").read_bytes()
    kind = data.index(b"\x04\x80\x80\x80", data.index(b"esds")) + 5  # of the sound's codec: 0x40 is AAC
    deaf = data[:kind] + b"\xfe" + data[kind + 1 :]
    (tmp_path / "deaf.mp4").write_bytes(deaf.replace(b"mp4a", b"zzzz"))
    (tmp_path / "blind.mp4").write_bytes(data.replace(b"avc1", b"zzzz"))
    video = value("LoadVideo", tmp_path, file="deaf.mp4")
    assert video.get_components().audio is None
    assert content(written(tmp_path, video, "copy")).codecs == ["h264"]
    with pytest.raises(UnfitInput, match="has no pictures in it"):
        value("LoadVideo", tmp_path, file="blind.mp4")
    assert value("LoadAudio", tmp_path, audio="blind.mp4")["sample_rate"] == 44100


def test_of_a_file_that_is_written_piece_by_piece_the_whole_frames_are_taken(tmp_path: Path) -> None:
    images = moving(12)
    data = encoded(tmp_path / "a.mkv", images, "ffv1").read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: len(data) // 2])
    back = VideoFromFile(tmp_path / "a.mkv").get_components().images
    assert 2 <= len(back) < 12
    assert psnr(back[0], images[0]) > 30


def test_pictures_too_large_to_open_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded(tmp_path / "a.mp4", moving())
    monkeypatch.setattr(frames, "PIXEL_LIMIT", 1000)
    with pytest.raises(UnfitInput, match="64 x 48 pixels, which are not opened"):
        value("LoadVideo", tmp_path, file="a.mp4")


def test_more_frames_than_memory_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded(tmp_path / "a.mp4", moving(40))

    def no_room(*shape: int) -> None:
        if shape[0] > 32:
            raise OutOfMemory(f"{shape}")

    monkeypatch.setattr(frames, "check_room", no_room)
    with pytest.raises(OutOfMemory, match="33, 48, 64, 3"):
        VideoFromFile(tmp_path / "a.mp4").get_components()


def test_decoders_know_the_limit_of_pixels(tmp_path: Path) -> None:
    encoded(tmp_path / "a.mp4", moving(1))
    with containers.opened(tmp_path / "a.mp4", "a") as container:
        assert container.streams.video[0].codec_context.options["max_pixels"] == str(containers.PIXEL_LIMIT)


@pytest.mark.parametrize("shape", [(0, 16, 16, 3), (16, 16, 3), (1, 0, 16, 3), (1, 16, 16, 2)])
def test_what_are_no_pictures_make_no_video(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match="shape"):
        written(tmp_path, made(tmp_path, torch.zeros(shape)))
    with pytest.raises(UnfitInput, match="shape"):
        call("SaveWEBM", tmp_path, images=torch.zeros(shape), filename_prefix="a", codec="vp9", fps=4.0, crf=30.0)


@pytest.mark.parametrize("fps", [0.0, -1.0, math.nan, math.inf])
def test_a_frame_rate_that_is_none_is_refused(fps: float, tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match="frames per second"):
        made(tmp_path, moving(1), fps)


def test_an_unknown_codec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match="'h266'"):
        written(tmp_path, made(tmp_path), codec="h266")
    with pytest.raises(UnfitInput, match="'h266' is none of"):
        call("SaveWEBM", tmp_path, images=moving(1), filename_prefix="a", codec="h266", fps=4.0, crf=30.0)


def test_a_sound_of_no_length_is_left_out(tmp_path: Path) -> None:
    video = made(tmp_path, audio={"waveform": torch.zeros(1, 2, 0), "sample_rate": 8000})
    assert content(written(tmp_path, video)).codecs == ["h264"]


def test_components_hold_what_they_were_made_of() -> None:
    images = moving(4)
    video = VideoFromComponents(VideoComponents(images=images, frame_rate=Fraction(8)))
    assert video.get_components().images is images
    assert (video.get_duration(), video.get_dimensions(), video.get_frame_rate()) == (0.5, (64, 48), Fraction(8))
