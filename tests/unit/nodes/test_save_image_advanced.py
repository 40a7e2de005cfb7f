import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from PIL import ImageSequence
from torch import Tensor

from limner.errors import UnfitInput
from limner.nodes.media import colours
from tests.unit.nodes.media import INSIDE, TEXTS, call, moving, psnr

AVIF = {"bit_depth": "auto", "input_color_space": "sRGB", "crf": 10, "save_mode": "still images"}
MOVING = {"save_mode": "animated", "save_mode.fps": 4.0, "save_mode.loop_count": 0}


def save(folder: Path, images: Tensor, format: str, texts: Any = None, **options: Any) -> list[Path]:
    dotted = {f"format.{name}": value for name, value in options.items()}
    inputs = {"images": images, "filename_prefix": "s", "format": format, **dotted, **(texts or {})}
    run, result = call("SaveImageAdvanced", folder, **inputs)
    assert result.values == (images,)
    assert run.files.reserved[0]["extension"] == f".{format}"
    return [folder / each["filename"] for each in result.ui["images"]]


def decoded(path: Path, format: str) -> np.ndarray:
    """What FFmpeg reads of a file, in its own pixel format."""
    with av.open(str(path)) as container:
        (frame,) = container.decode(video=0)
        assert frame.format.name == format
        return halves(frame) if "f16" in format else np.asarray(frame.to_ndarray())


def halves(frame: av.VideoFrame) -> np.ndarray:
    """A frame of half values (H, W) or (H, W, C), which PyAV does not convert: planes of green, blue, red, alpha."""
    planes = [np.frombuffer(bytes(plane), "<f2").reshape(frame.height, -1)[:, : frame.width] for plane in frame.planes]
    order = {1: [0], 3: [2, 0, 1], 4: [2, 0, 1, 3]}[len(planes)]
    return np.stack([planes[each] for each in order], axis=-1).squeeze(-1 if len(planes) == 1 else ())


def attributes(path: Path) -> dict[str, tuple[str, bytes]]:
    """The header of an EXR file."""
    data, place, found = path.read_bytes(), 8, {}
    while data[place]:
        name, kind, rest = data[place:].split(b"\0", 2)
        (size,) = struct.unpack_from("<i", rest)
        found[name.decode()] = (kind.decode(), rest[4 : 4 + size])
        place = len(data) - len(rest) + 4 + size
    return found


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_png_of_8_bits(channels: int, mode: str, tmp_path: Path) -> None:
    images = torch.rand(2, 5, 7, channels)
    paths = save(tmp_path, images, "png", TEXTS, bit_depth="8-bit", input_color_space="sRGB")
    assert len(paths) == 2
    with Pictures.open(paths[1]) as picture:
        assert picture.mode == mode
        assert picture.text == INSIDE  # type: ignore[attr-defined]
        values = np.array(picture).reshape(5, 7, channels)
    assert np.array_equal(values, (images[1] * 255).to(torch.uint8).numpy())


@pytest.mark.parametrize(("channels", "format"), [(1, "gray16be"), (3, "rgb48be"), (4, "rgba64be")])
def test_png_of_16_bits_keeps_16_bits(channels: int, format: str, tmp_path: Path) -> None:
    images = torch.rand(1, 9, 7, channels)
    (path,) = save(tmp_path, images, "png", TEXTS, bit_depth="16-bit", input_color_space="sRGB")
    values = decoded(path, format).reshape(9, 7, channels)
    assert np.array_equal(values, (images[0] * 65535).round().numpy().astype(np.uint16))
    with Pictures.open(path) as picture:
        picture.load()
        assert picture.text == INSIDE  # type: ignore[attr-defined]


def test_png_of_16_bits_cuts_what_it_cannot_hold(tmp_path: Path) -> None:
    values = torch.tensor([-1.0, 0.0, 2.0, torch.nan])[None, None, :, None]
    (path,) = save(tmp_path, values, "png", bit_depth="16-bit", input_color_space="sRGB")
    assert decoded(path, "gray16be").tolist() == [[0, 0, 65535, 0]]


@pytest.mark.parametrize(("channels", "format"), [(1, "grayf32le"), (3, "gbrpf32le"), (4, "gbrapf32le")])
@pytest.mark.parametrize(("depth", "error"), [("32-bit float", 0.0), ("16-bit float", 2**-11)])
def test_exr_keeps_light_of_any_brightness(
    channels: int, format: str, depth: str, error: float, tmp_path: Path
) -> None:
    images = torch.randn(1, 37, 21, channels) * 100
    (path,) = save(tmp_path, images, "exr", TEXTS, bit_depth=depth, input_color_space="linear")
    values = decoded(path, format.replace("f32", "f16") if error else format).reshape(37, 21, channels)
    assert np.allclose(values, images[0].numpy(), rtol=error, atol=0 if error == 0 else 1e-4)
    found = attributes(path)
    assert {name: found[name] for name in INSIDE} == {name: ("string", text.encode()) for name, text in INSIDE.items()}


def test_exr_of_one_value_is_small(tmp_path: Path) -> None:
    (path,) = save(tmp_path, torch.ones(1, 256, 256, 3), "exr", bit_depth="32-bit float", input_color_space="linear")
    assert path.stat().st_size < 20_000


def test_exr_holds_no_more_than_a_half_can(tmp_path: Path) -> None:
    values = torch.tensor([1e9, -1e9, torch.nan, torch.inf])[None, None, :, None]
    (path,) = save(tmp_path, values, "exr", bit_depth="16-bit float", input_color_space="linear")
    assert decoded(path, "grayf16le").tolist() == [[65504, -65504, 0, 65504]]


@pytest.mark.parametrize(
    ("space", "value", "light", "red_x"),
    [
        ("sRGB", 0.5, 0.21404114, 0.64),
        ("sRGB", 0.02, 0.02 / 12.92, 0.64),
        ("HDR", 0.5, 1 / 12, 0.708),
        ("HDR", 1.0, 1.0, 0.708),
        ("linear", 0.5, 0.5, 0.64),
        ("linear ACEScg", 0.5, 0.5, 0.713),
    ],
)
def test_exr_holds_light_and_says_whose(space: str, value: float, light: float, red_x: float, tmp_path: Path) -> None:
    images = torch.full((1, 2, 2, 4), value)
    (path,) = save(tmp_path, images, "exr", bit_depth="32-bit float", input_color_space=space)
    values = decoded(path, "gbrapf32le")
    assert values[..., :3] == pytest.approx(light, abs=1e-6)
    assert values[..., 3] == pytest.approx(value)  # transparency is no light
    assert struct.unpack("<8f", attributes(path)["chromaticities"][1])[0] == pytest.approx(red_x)


def test_names_of_texts_may_be_long_and_never_replace_what_the_file_needs(tmp_path: Path) -> None:
    texts = {"extra_pnginfo": {"n" * 60: 1, "compression": 2}}
    (path,) = save(tmp_path, torch.ones(1, 4, 4, 1), "exr", texts, bit_depth="32-bit float", input_color_space="linear")
    assert attributes(path)["n" * 60] == ("string", b"1")
    assert attributes(path)["compression_"] == ("string", b"2")
    assert decoded(path, "grayf32le").tolist() == [[1.0] * 4] * 4


def test_light_curves_are_continuous_and_mirrored() -> None:
    assert colours.light_of_srgb(torch.tensor([0.04045, 0.0404501])).diff().abs() < 1e-6
    assert colours.light_of_srgb(torch.tensor([-0.5]))[0] == pytest.approx(-0.21404114)
    assert colours.light_of_hlg(torch.tensor([0.5, 0.5000001])).diff().abs() < 1e-6
    assert colours.light_of_hlg(torch.tensor([-1.0]))[0] == 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", ["auto", "8-bit YUV420", "10-bit YUV420"])
def test_avif_holds_pictures(channels: int, depth: str, tmp_path: Path) -> None:
    images = moving(2)[..., :channels]
    paths = save(tmp_path, images, "avif", **{**AVIF, "bit_depth": depth})
    assert len(paths) == 2
    with Pictures.open(paths[1]) as picture:
        values = torch.from_numpy(np.array(picture.convert("RGB"))).float() / 255
    assert psnr(values, images[1].expand(48, 64, 3)) > 35
    with av.open(str(paths[1])) as container:
        pixels = container.streams.video[0].codec_context.pix_fmt
    assert pixels == ("yuv420p10le" if depth.startswith("10") else "yuv420p")


@pytest.mark.parametrize(
    ("space", "tags"), [("sRGB", (1, 13)), ("HDR", (9, 18)), ("HDR PQ", (9, 16))], ids=lambda each: str(each)
)
@pytest.mark.parametrize("depth", ["auto", "8-bit YUV420"])
def test_avif_says_what_its_colours_are(space: str, tags: tuple[int, int], depth: str, tmp_path: Path) -> None:
    (path,) = save(tmp_path, moving(1), "avif", **{**AVIF, "input_color_space": space, "bit_depth": depth})
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.color_primaries, frame.color_trc) == tags
        assert frame.format.name == ("yuv420p10le" if depth == "auto" and space != "sRGB" else "yuv420p")


@pytest.mark.parametrize("depth", ["8-bit YUV420", "10-bit YUV420"])
@pytest.mark.parametrize("loops", [0, 3])
def test_avif_pictures_move(depth: str, loops: int, tmp_path: Path) -> None:
    images = moving(5)
    options = {**AVIF, **MOVING, "bit_depth": depth, "save_mode.loop_count": loops}
    (path,) = save(tmp_path, images, "avif", **options)
    with Pictures.open(path) as picture:
        shown = [(np.array(each.convert("RGB")), each.info["duration"]) for each in ImageSequence.Iterator(picture)]
    assert [round(each) for _, each in shown] == [250] * 5
    assert psnr(torch.from_numpy(np.stack([each for each, _ in shown])).float() / 255, images) > 32


def test_avif_holds_the_workflow(tmp_path: Path) -> None:
    (path,) = save(tmp_path, moving(1), "avif", TEXTS, **AVIF)
    with Pictures.open(path) as picture:
        exif = picture.getexif()
    assert exif[0x0110] == "prompt:" + INSIDE["prompt"]
    assert exif[0x010F] == "workflow:" + INSIDE["workflow"]


def test_avif_of_10_bits_holds_the_workflow_as_xmp(tmp_path: Path) -> None:
    (path,) = save(tmp_path, moving(1), "avif", TEXTS, **{**AVIF, "bit_depth": "10-bit YUV420"})
    data = path.read_bytes()
    box = data[data.index(bytes.fromhex("be7acfcb97a942e89c71999491e3afac")) - 8 :]
    assert struct.unpack(">I4s", box[:8]) == (len(box), b"uuid")
    assert '<c:text c:name="prompt">{"1": {"text": "\\u00e4"}}</c:text>' in box[24:].decode()


def test_a_higher_crf_makes_a_smaller_avif(tmp_path: Path) -> None:
    noise = torch.rand(1, 64, 64, 3)
    for depth in ("8-bit YUV420", "10-bit YUV420"):
        sizes = [
            save(tmp_path, noise, "avif", **{**AVIF, "bit_depth": depth, "crf": crf})[0].stat().st_size
            for crf in (1, 63)
        ]
        assert sizes[1] < sizes[0] / 2


@pytest.mark.parametrize(
    ("format", "channels", "options", "what"),
    [
        ("jpeg", 3, {}, "'jpeg' is none of"),
        ("png", 3, {}, "must be given"),
        ("png", 2, {"bit_depth": "8-bit", "input_color_space": "sRGB"}, "2 channels cannot be written as png"),
        ("avif", 4, AVIF, "4 channels cannot be written as avif"),
        ("png", 3, {"bit_depth": "9-bit", "input_color_space": "sRGB"}, "'9-bit' of png is none of 8-bit, 16-bit"),
        ("exr", 3, {"bit_depth": "32-bit float", "input_color_space": "HDR PQ"}, "'HDR PQ' of exr is none of"),
        ("avif", 3, {**AVIF, "crf": 64}, "crf 64 is no whole number of 1 to 63"),
        ("avif", 3, {**AVIF, "save_mode": "animated"}, "save_mode.fps must be given"),
        ("avif", 3, {**AVIF, **MOVING, "save_mode.fps": 0.0}, "a second|per second"),
    ],
)
def test_what_cannot_be_written_is_told(
    format: str, channels: int, options: dict[str, Any], what: str, tmp_path: Path
) -> None:
    with pytest.raises(UnfitInput, match=what):
        save(tmp_path, torch.zeros(1, 16, 16, channels), format, **options)
