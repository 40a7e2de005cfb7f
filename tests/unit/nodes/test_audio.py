import hashlib
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limner.errors import OutOfMemory, UnfitInput
from limner.nodes.media.audio import resampled
from tests.unit.nodes.contexts import run_in
from tests.unit.nodes.media import INSIDE, NODES, TEXTS, call, content, inside, moving, psnr, tone, value, write_wav


def saved(name: str, folder: Path, audio: Any, **inputs: Any) -> Path:
    prefix = {} if name == "PreviewAudio" else {"filename_prefix": "a"}
    _, result = call(name, folder, audio=audio, **prefix, **inputs)
    return folder / str(result.ui["audio"][0]["filename"])


def loudest_at(waveform: torch.Tensor, rate: int) -> float:
    """The frequency, in Hz, of the loudest tone of (n,)."""
    return float(torch.fft.rfft(waveform).abs().argmax()) * rate / waveform.shape[-1]


def test_flac_keeps_every_sample_of_24_bits(tmp_path: Path) -> None:
    sound = tone()
    path = saved("SaveAudio", tmp_path, sound, **TEXTS)
    found = content(path)
    assert (path.suffix, found.codecs, found.rate, found.channels) == (".flac", ["flac"], 44100, 2)
    assert inside(path) == INSIDE
    loaded = value("LoadAudio", tmp_path, audio=path.name)
    assert loaded["sample_rate"] == 44100
    assert loaded["waveform"].shape == sound["waveform"].shape
    assert torch.allclose(loaded["waveform"], sound["waveform"], atol=2**-22)


@pytest.mark.parametrize(("quality", "bits"), [("128k", 128_000), ("320k", 320_000), ("V0", None)])
def test_mp3_holds_the_sound_and_the_workflow(quality: str, bits: int | None, tmp_path: Path) -> None:
    path = saved("SaveAudioMP3", tmp_path, tone(2.0), quality=quality, **TEXTS)
    found = content(path)
    assert (found.codecs, found.rate, found.channels) == (["mp3"], 44100, 2)
    assert inside(path) == INSIDE
    if bits is not None:
        assert found.bit_rate == pytest.approx(bits, rel=0.05)
    loaded = value("LoadAudio", tmp_path, audio=path.name)
    assert loaded["waveform"].shape[-1] == pytest.approx(2 * 44100, abs=3000)
    middle = slice(20_000, 60_000)
    assert loudest_at(loaded["waveform"][0, 0, middle], 44100) == pytest.approx(440, abs=2)
    assert loudest_at(loaded["waveform"][0, 1, middle], 44100) == pytest.approx(660, abs=2)
    assert loaded["waveform"][..., middle].abs().amax() == pytest.approx(0.5, abs=0.05)


def test_a_variable_bit_rate_follows_what_there_is_to_hear(tmp_path: Path) -> None:
    noise = {"waveform": torch.rand(1, 2, 88200) - 0.5, "sample_rate": 44100}
    loud = saved("SaveAudioMP3", tmp_path, noise, quality="V0").stat().st_size
    still = {"waveform": torch.zeros(1, 2, 88200), "sample_rate": 44100}
    assert saved("SaveAudioMP3", tmp_path, still, quality="V0").stat().st_size < loud / 3
    steady = saved("SaveAudioMP3", tmp_path, still, quality="128k").stat().st_size
    assert steady == pytest.approx(2 * 128_000 / 8, rel=0.1)


@pytest.mark.parametrize("quality", ["64k", "96k", "128k", "192k", "320k"])
def test_opus_holds_the_sound_and_the_workflow(quality: str, tmp_path: Path) -> None:
    path = saved("SaveAudioOpus", tmp_path, tone(1.0), quality=quality, **TEXTS)
    found = content(path)
    assert (path.suffix, found.codecs, found.rate, found.channels) == (".opus", ["opus"], 48000, 2)
    assert inside(path) == INSIDE
    loaded = value("LoadAudio", tmp_path, audio=path.name)
    assert loaded["waveform"].shape[-1] == pytest.approx(48000, abs=1000)
    assert loudest_at(loaded["waveform"][0, 1, 10_000:40_000], 48000) == pytest.approx(660, abs=2)


def test_a_higher_opus_quality_makes_a_larger_file(tmp_path: Path) -> None:
    noise = {"waveform": torch.rand(1, 2, 48000) - 0.5, "sample_rate": 48000}
    sizes = [saved("SaveAudioOpus", tmp_path, noise, quality=each).stat().st_size for each in ("64k", "192k")]
    assert sizes[1] > 2 * sizes[0]


@pytest.mark.parametrize(
    ("name", "rate", "kept"),
    [
        ("SaveAudio", 12345, 12345),
        ("SaveAudioMP3", 12345, 16000),
        ("SaveAudioMP3", 96000, 48000),
        ("SaveAudioOpus", 11025, 48000),
    ],
)
def test_sample_rates_that_a_format_does_not_know_are_converted(
    name: str, rate: int, kept: int, tmp_path: Path
) -> None:
    quality = {} if name == "SaveAudio" else {"quality": "320k"}
    path = saved(name, tmp_path, tone(1.0, rate, (300.0,)), **quality)
    loaded = value("LoadAudio", tmp_path, audio=path.name)
    assert loaded["sample_rate"] == kept
    assert loaded["waveform"].shape[:2] == (1, 1)
    length = loaded["waveform"].shape[-1]
    assert length / kept == pytest.approx(1.0, abs=0.15)
    assert loudest_at(loaded["waveform"][0, 0, length // 4 : 3 * length // 4], kept) == pytest.approx(300, abs=3)


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_flac_holds_up_to_eight_channels(channels: int, tmp_path: Path) -> None:
    sound = tone(0.1, hertz=tuple(100.0 * (each + 1) for each in range(channels)))
    path = saved("SaveAudio", tmp_path, sound)
    loaded = value("LoadAudio", tmp_path, audio=path.name)
    assert torch.allclose(loaded["waveform"], sound["waveform"], atol=2**-22)


@pytest.mark.parametrize(("name", "channels"), [("SaveAudio", 9), ("SaveAudioMP3", 3)])
def test_too_many_channels_are_refused(name: str, channels: int, tmp_path: Path) -> None:
    quality = {"quality": "V0"} if name == "SaveAudioMP3" else {}
    with pytest.raises(UnfitInput, match=f"the sound has {channels}"):
        saved(name, tmp_path, tone(0.1, hertz=(440.0,) * channels), **quality)


def test_a_batch_becomes_a_file_each(tmp_path: Path) -> None:
    batch = {"waveform": torch.stack([tone(0.1)["waveform"][0], torch.zeros(2, 4410)]), "sample_rate": 44100}
    run, result = call("SaveAudio", tmp_path, audio=batch, filename_prefix="b")
    assert [each["filename"] for each in result.ui["audio"]] == ["b_00001_.flac", "b_00002_.flac"]
    assert run.files.reserved[0]["count"] == 2
    assert value("LoadAudio", tmp_path, audio="b_00002_.flac")["waveform"].count_nonzero() == 0


def test_a_preview_is_temporary(tmp_path: Path) -> None:
    run, result = call("PreviewAudio", tmp_path, audio=tone(0.1), **TEXTS)
    assert run.files.reserved[0]["type"] == "temp"
    assert run.files.reserved[0]["prefix"].startswith("ComfyUI_temp_")
    assert result.ui["audio"][0]["type"] == "temp"
    assert inside(tmp_path / result.ui["audio"][0]["filename"]) == INSIDE


def test_what_is_not_a_number_is_silence_and_what_is_too_loud_is_cut(tmp_path: Path) -> None:
    waveform = torch.tensor([[[math.nan, 5.0, -5.0, 0.25]]]).repeat(1, 1, 100)
    path = saved("SaveAudio", tmp_path, {"waveform": waveform, "sample_rate": 8000})
    loaded = value("LoadAudio", tmp_path, audio=path.name)["waveform"][0, 0, :4]
    assert torch.allclose(loaded, torch.tensor([0.0, 1.0, -1.0, 0.25]), atol=1e-6)


@pytest.mark.parametrize("node", ["LoadAudio", "RecordAudio"])
def test_a_wav_file_is_read_exactly(node: str, tmp_path: Path) -> None:
    values = np.arange(-1000, 1000).reshape(2, 1000)
    write_wav(tmp_path / "a.wav", values)
    loaded = value(node, tmp_path, audio="a.wav")
    assert loaded["sample_rate"] == 8000
    assert torch.equal(loaded["waveform"], torch.from_numpy(values[None] / 32768).float())
    assert NODES[node].fingerprint({"audio": "a.wav"}, run_in(tmp_path).ctx) == (
        hashlib.sha256((tmp_path / "a.wav").read_bytes()).hexdigest()
    )


def raw_wav(path: Path, channels: int, samples: int, claims: int | None = None) -> None:
    """A WAV file whose header says nothing of where its channels sound, and anything of its length."""
    data = np.arange(channels * samples, dtype="<i2").tobytes()
    claimed = len(data) if claims is None else claims
    form = struct.pack("<IHHIIHH", 16, 1, channels, 8000, 16000 * channels, 2 * channels, 16)
    path.write_bytes(b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + form + b"data" + struct.pack("<I", claimed) + data)


@pytest.mark.parametrize("channels", [1, 3, 5, 16])
def test_any_number_of_channels_is_read_in_order(channels: int, tmp_path: Path) -> None:
    raw_wav(tmp_path / "a.wav", channels, 50)
    waveform = value("LoadAudio", tmp_path, audio="a.wav")["waveform"]
    expected = torch.arange(channels * 50).reshape(50, channels).T / 32768
    assert torch.equal(waveform, expected[None])


def test_a_length_that_a_header_claims_is_not_believed(tmp_path: Path) -> None:
    raw_wav(tmp_path / "a.wav", 2, 100, claims=0xFFFF_FFF0)
    assert value("LoadAudio", tmp_path, audio="a.wav")["waveform"].shape == (1, 2, 100)


@pytest.mark.parametrize(("channels", "samples"), [(2, 0), (0, 0)])
def test_a_file_without_samples_has_no_sound(channels: int, samples: int, tmp_path: Path) -> None:
    raw_wav(tmp_path / "a.wav", channels, samples)
    with pytest.raises(UnfitInput, match=r"a\.wav (has no sound|is no sound)"):
        value("LoadAudio", tmp_path, audio="a.wav")


def playlist(folder: Path) -> bytes:
    write_wav(folder / "secret.wav", np.ones((1, 8000)))
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{folder / 'secret.wav'}\n#EXT-X-ENDLIST\n".encode()


@pytest.mark.parametrize(
    "bad",
    ["empty", "text", "picture", "cut", "half a header", "playlist", "concat", "noise"],
)
def test_what_is_no_sound_is_refused(bad: str, tmp_path: Path) -> None:
    flac = saved("SaveAudio", tmp_path, tone(0.2))
    contents = {
        "empty": b"",
        "text": b"hello, no sound here" * 100,
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "cut": flac.read_bytes()[:-3000],
        "half a header": flac.read_bytes()[:20],
        "playlist": playlist(tmp_path),
        "concat": f"ffconcat version 1.0\nfile {tmp_path / 'secret.wav'}\n".encode(),
        "noise": np.random.default_rng(0).bytes(5000),
    }
    (tmp_path / "bad.flac").write_bytes(contents[bad])
    with pytest.raises(UnfitInput, match=r"bad\.flac (is no sound|has no sound)"):
        value("LoadAudio", tmp_path, audio="bad.flac")


def test_a_video_without_sound_has_none_to_load(tmp_path: Path) -> None:
    _, result = call("SaveWEBM", tmp_path, images=moving(2), filename_prefix="v", codec="vp9", fps=4.0, crf=30.0)
    with pytest.raises(UnfitInput, match="has no sound in it"):
        value("LoadAudio", tmp_path, audio=result.ui["images"][0]["filename"])


@pytest.mark.parametrize(("rate", "wanted"), [(44100, 48000), (48000, 44100), (8000, 44100), (96000, 16000)])
def test_resampling_keeps_length_place_and_pitch(rate: int, wanted: int) -> None:
    (waveform,) = resampled(tone(1.0, rate, (440.0,))["waveform"][0], rate, wanted)
    expected = tone(1.0, wanted, (440.0,))["waveform"][0, 0]
    assert waveform.shape == expected.shape
    inner = slice(wanted // 10, -wanted // 10)
    assert psnr(waveform[inner], expected[inner]) > 60


def test_a_sound_is_cut_in_time(tmp_path: Path) -> None:
    sound = {"waveform": torch.arange(1000.0)[None, None], "sample_rate": 100}

    def part(start: float, duration: float) -> list[float]:
        cut = value("TrimAudioDuration", tmp_path, audio=sound, start_index=start, duration=duration)
        return [float(cut["waveform"][0, 0, 0]), cut["waveform"].shape[-1]]

    assert part(1.0, 2.0) == [100, 200]
    assert part(-1.0, 5.0) == [900, 100]
    assert part(-50.0, 45.0) == [0, 500]
    assert part(9.0, 60.0) == [900, 100]


@pytest.mark.parametrize(("start", "duration"), [(10.0, 1.0), (0.0, 0.0), (-20.0, 5.0), (1e30, 1.0)])
def test_a_part_with_nothing_in_it_is_refused(start: float, duration: float, tmp_path: Path) -> None:
    sound = {"waveform": torch.zeros(1, 1, 1000), "sample_rate": 100}
    with pytest.raises(UnfitInput, match="there is nothing in this part"):
        value("TrimAudioDuration", tmp_path, audio=sound, start_index=start, duration=duration)


def test_stereo_is_split(tmp_path: Path) -> None:
    sound = tone(0.1)
    _, result = call("SplitAudioChannels", tmp_path, audio=sound)
    for side, half in enumerate(result.values):
        assert torch.equal(half["waveform"], sound["waveform"][:, side : side + 1])
        assert half["sample_rate"] == 44100


@pytest.mark.parametrize("channels", [1, 3])
def test_only_stereo_can_be_split(channels: int, tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match=f"{channels} channel"):
        call("SplitAudioChannels", tmp_path, audio=tone(0.1, hertz=(1.0,) * channels))


@pytest.mark.parametrize("direction", ["after", "before"])
def test_sounds_are_joined(direction: str, tmp_path: Path) -> None:
    one, other = torch.full((1, 2, 10), 0.1), torch.full((1, 1, 5), 0.2)
    sounds = {"audio1": {"waveform": one, "sample_rate": 100}, "audio2": {"waveform": other, "sample_rate": 100}}
    joined = value("AudioConcat", tmp_path, **sounds, direction=direction)["waveform"]
    assert joined.shape == (1, 2, 15)
    assert torch.equal(joined, torch.cat([one, other.expand(1, 2, 5)][:: 1 if direction == "after" else -1], dim=-1))


def test_the_lower_sample_rate_is_raised(tmp_path: Path) -> None:
    joined = value("AudioConcat", tmp_path, audio1=tone(0.5, 22050), audio2=tone(0.5, 44100), direction="after")
    assert joined["sample_rate"] == 44100
    assert joined["waveform"].shape == (1, 2, 44100)


@pytest.mark.parametrize(("method", "value_"), [("add", 0.7), ("mean", 0.35), ("subtract", 0.1), ("multiply", 0.12)])
def test_sounds_are_merged(method: str, value_: float, tmp_path: Path) -> None:
    one = {"waveform": torch.full((1, 1, 10), 0.4), "sample_rate": 100}
    other = {"waveform": torch.full((1, 1, 4), 0.3), "sample_rate": 100}
    merged = value("AudioMerge", tmp_path, audio1=one, audio2=other, merge_method=method)["waveform"]
    assert merged.shape == (1, 1, 10)
    assert merged[0, 0, 0] == pytest.approx(value_)
    assert merged[0, 0, 9] == pytest.approx({"add": 0.4, "mean": 0.2, "subtract": 0.4, "multiply": 0.0}[method])


def test_a_sum_that_is_too_loud_is_made_quieter(tmp_path: Path) -> None:
    one = {"waveform": torch.tensor([[[0.8, 0.4, -0.2]]]), "sample_rate": 100}
    merged = value("AudioMerge", tmp_path, audio1=one, audio2=one, merge_method="add")["waveform"]
    assert torch.allclose(merged, torch.tensor([[[1.0, 0.5, -0.25]]]))


@pytest.mark.parametrize(("volume", "factor"), [(0, 1.0), (20, 10.0), (-20, 0.1), (6, 1.9953)])
def test_volume_is_told_in_decibels(volume: int, factor: float, tmp_path: Path) -> None:
    sound = tone(0.1)
    louder = value("AudioAdjustVolume", tmp_path, audio=sound, volume=volume)["waveform"]
    assert torch.allclose(louder, sound["waveform"] * factor, rtol=1e-4)


def test_silence_has_its_length(tmp_path: Path) -> None:
    silence = value("EmptyAudio", tmp_path, duration=1.5, sample_rate=8000, channels=1)
    assert silence["waveform"].shape == (1, 1, 12000)
    assert silence["waveform"].count_nonzero() == 0
    assert value("EmptyAudio", tmp_path, duration=0.0)["waveform"].shape == (1, 2, 0)


def test_the_empty_latent_of_a_sound_has_its_length(tmp_path: Path) -> None:
    latent = value("EmptyLatentAudio", tmp_path, seconds=47.6, batch_size=2)["samples"]
    assert latent.shape == (2, 64, 1024)


def test_endless_silence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory):
        value("EmptyAudio", tmp_path, duration=1e12)
    with pytest.raises(UnfitInput, match="sample rate of 0 Hz"):
        value("EmptyAudio", tmp_path, duration=1.0, sample_rate=0)
    with pytest.raises(UnfitInput, match="duration of nan"):
        value("EmptyAudio", tmp_path, duration=math.nan)


@pytest.mark.parametrize(
    "broken",
    [
        None,
        {"waveform": torch.zeros(2, 10), "sample_rate": 8000},
        {"waveform": torch.zeros(1, 0, 10), "sample_rate": 8000},
        {"waveform": torch.zeros(1, 1, 10), "sample_rate": 0},
        {"waveform": torch.zeros(1, 1, 10), "sample_rate": 44100.5},
        {"waveform": [1, 2], "sample_rate": 8000},
        {"sample_rate": 8000},
    ],
)
def test_what_is_no_sound_cannot_be_worked_on(broken: Any, tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match=r"is no sound|has the sample rate"):
        call("SaveAudio", tmp_path, audio=broken, filename_prefix="a")


def test_an_empty_sound_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match="without a single sample"):
        saved("SaveAudio", tmp_path, {"waveform": torch.zeros(1, 2, 0), "sample_rate": 8000})


def test_channels_and_batches_that_do_not_go_together_are_told(tmp_path: Path) -> None:
    three = tone(0.1, hertz=(1.0, 2.0, 3.0))
    with pytest.raises(UnfitInput, match="audio1 has 3 channels and audio2 2"):
        value("AudioConcat", tmp_path, audio1=three, audio2=tone(0.1), direction="after")
