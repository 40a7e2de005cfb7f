import hashlib
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

from limner.errors import BadImage, UnfitInput
from limner.nodes import library
from tests.unit.nodes.contexts import run_in

NODES = library.load()
COLOURS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


def load(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    image, mask = NODES["LoadImage"].call({"image": path.name}, run_in(path.parent).ctx).values
    return image, mask


def save(folder: Path, name: str = "SaveImage", **inputs: Any) -> tuple[Any, list[dict]]:
    run = run_in(folder)
    result = NODES[name].call(inputs, run.ctx)
    assert result.ui is not None
    return run, result.ui["images"]


def test_a_picture_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    Pictures.fromarray(COLOURS).save(tmp_path / "a.png")
    image, mask = load(tmp_path / "a.png")
    assert torch.equal(image, torch.from_numpy(COLOURS.astype(np.float32) / 255)[None])
    assert torch.equal(mask, torch.zeros(1, 64, 64))


def test_what_is_transparent_is_masked(tmp_path: Path) -> None:
    alpha = np.arange(24, dtype=np.uint8).reshape(4, 6, 1) * 10
    Pictures.fromarray(np.concatenate([COLOURS, alpha], axis=2)).save(tmp_path / "a.png")
    _, mask = load(tmp_path / "a.png")
    assert torch.allclose(mask, 1 - torch.from_numpy(alpha[None, ..., 0].astype(np.float32) / 255))


def test_a_palette_with_a_transparent_colour_has_a_mask_too(tmp_path: Path) -> None:
    picture = Pictures.fromarray(COLOURS).convert("P")
    picture.save(tmp_path / "a.png", transparency=picture.getpixel((0, 0)))
    _, mask = load(tmp_path / "a.png")
    assert mask.shape == (1, 4, 6)
    assert mask[0, 0, 0] == 1


def test_a_camera_s_turn_is_applied(tmp_path: Path) -> None:
    exif = Pictures.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Pictures.fromarray(COLOURS).save(tmp_path / "a.png", exif=exif)
    image, _ = load(tmp_path / "a.png")
    assert torch.equal(image[0], torch.from_numpy(np.rot90(COLOURS, k=-1).astype(np.float32) / 255))


def test_frames_make_a_batch_and_those_of_another_size_are_left_out(tmp_path: Path) -> None:
    frames = [
        Pictures.new("RGB", size, colour) for size, colour in (((6, 4), "red"), ((6, 4), "lime"), ((3, 3), "blue"))
    ]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    image, mask = load(tmp_path / "a.tiff")
    assert image[:, 0, 0].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert len(mask) == 2


def test_only_the_first_picture_of_a_stereo_photograph_counts(tmp_path: Path) -> None:
    frames = [Pictures.new("RGB", (16, 16), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "a.mpo", save_all=True, append_images=frames[1:])
    image, _ = load(tmp_path / "a.mpo")
    assert len(image) == 1


@pytest.mark.parametrize("mode", ["L", "1", "LA", "CMYK", "I;16", "I", "F", "HSV"])
def test_pictures_of_every_mode_come_as_colours(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.tiff" if mode in ("CMYK", "F", "I", "HSV") else "a.png")
    picture = Pictures.new("I", (6, 4), 0x8000).convert("I;16") if mode == "I;16" else Pictures.new(mode, (6, 4))
    (picture.convert("RGB") if mode == "HSV" else picture).save(path)
    image, _ = load(path)
    assert image.shape == (1, 4, 6, 3)
    if mode == "I;16":
        assert image[0, 0, 0].tolist() == pytest.approx([0x80 / 255] * 3, abs=1 / 255)


def test_the_fingerprint_is_the_files_digest(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"whatever")
    fingerprint = NODES["LoadImage"].fingerprint({"image": "a.png"}, run_in(tmp_path).ctx)
    assert fingerprint == hashlib.sha256(b"whatever").hexdigest()


def png(width: int, height: int) -> bytes:
    """The shortest PNG that claims a size: its pixels are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def cut_png() -> bytes:
    data = io.BytesIO()
    Pictures.effect_noise((64, 64), 50).save(data, "PNG")
    return data.getvalue()[:1000]


def eps() -> bytes:
    data = io.BytesIO()
    Pictures.new("RGB", (4, 4)).save(data, "EPS")
    return data.getvalue()


BAD = {
    "eps": (eps(), "not a picture of a known format"),
    "empty": (b"", "not a picture of a known format"),
    "text": (b"hello, this is no picture", "not a picture of a known format"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture of a known format"),
    "cut short": (cut_png(), "damaged or cut short"),
    "no pixels": (png(6, 4), "damaged or cut short"),
    "bomb": (png(60_000, 60_000), "more than 89 million pixels"),
    "smaller bomb": (png(10_000, 10_000), "more than 89 million pixels"),
}


@pytest.mark.parametrize(("content", "what"), BAD.values(), ids=BAD)
def test_bytes_that_are_no_picture_are_refused(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(BadImage, match=rf"bad\.png .*{what}"):
        load(tmp_path / "bad.png")


def test_many_frames_count_together_against_the_limit(tmp_path: Path) -> None:
    frames = [Pictures.new("1", (4000, 4000)) for _ in range(6)]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:], compression="group4")
    with pytest.raises(BadImage, match="more than 89 million pixels"):
        load(tmp_path / "a.tiff")


def test_saved_pictures_hold_the_workflow_and_cut_values(tmp_path: Path) -> None:
    values = torch.tensor([-1.0, 0.0, 0.5, 0.999, 1.0, 2.0, torch.nan])[None, None, :, None].expand(1, 1, 7, 3)
    run, shown = save(
        tmp_path, images=values, filename_prefix="out", prompt={"1": "ä"}, extra_pnginfo={"workflow": {"b": [1, 2]}}
    )
    assert run.files.reserved == [
        {"type": "output", "prefix": "out", "count": 1, "width": 7, "height": 1, "extension": ".png"}
    ]
    assert shown == [{"filename": "out_00001_.png", "subfolder": "", "type": "output"}]
    with Pictures.open(tmp_path / "out_00001_.png") as picture:
        assert np.array(picture)[0, :, 0].tolist() == [0, 0, 127, 254, 255, 255, 0]
        assert picture.text == {"prompt": '{"1": "\\u00e4"}', "workflow": '{"b": [1, 2]}'}


def test_a_batch_becomes_a_file_each(tmp_path: Path) -> None:
    images = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 4, 6, 3)
    _, shown = save(tmp_path, images=images, filename_prefix="b")
    assert [each["filename"] for each in shown] == ["b_00001_.png", "b_00002_.png"]
    with Pictures.open(tmp_path / "b_00002_.png") as picture:
        assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_previews_are_temporary_and_named_by_chance(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        run, shown = save(tmp_path, "PreviewImage", images=torch.zeros(1, 4, 6, 3), prompt={"1": {}})
        assert run.files.reserved[0]["type"] == "temp"
        assert run.files.reserved[0]["prefix"].startswith("ComfyUI_temp_")
        assert len(run.files.reserved[0]["prefix"]) == len("ComfyUI_temp_") + 5
        names.add(shown[0]["filename"])
    assert len(names) == 3


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pictures_can_be_saved(channels: int, tmp_path: Path) -> None:
    _, shown = save(tmp_path, images=torch.rand(1, 4, 6, channels), filename_prefix="c")
    with Pictures.open(tmp_path / shown[0]["filename"]) as picture:
        assert len(picture.getbands()) == channels


@pytest.mark.parametrize("shape", [(0, 4, 6, 3), (1, 4, 6, 2), (4, 6, 3), (1, 0, 6, 3)])
def test_what_is_no_picture_cannot_be_saved(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match="cannot be written"):
        save(tmp_path, images=torch.zeros(shape), filename_prefix="d")


@pytest.mark.parametrize("extra", ["text", [1], {"": 1}, {"k" * 80: 1}, {"ключ": 1}, {"a\0b": 1}])
def test_what_a_png_cannot_hold_beside_its_pixels_is_told(extra: Any, tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match="extra_pnginfo"):
        save(tmp_path, images=torch.zeros(1, 2, 2, 3), filename_prefix="f", extra_pnginfo=extra)


def test_json_in_a_picture_is_written_by_pythons_defaults(tmp_path: Path) -> None:
    prompt = {"3": {"inputs": {"text": "…", "n": 1.0, "link": ["4", 0]}}}
    save(tmp_path, images=torch.zeros(1, 2, 2, 3), filename_prefix="e", prompt=prompt)
    with Pictures.open(tmp_path / "e_00001_.png") as picture:
        assert picture.text["prompt"] == json.dumps(prompt)
