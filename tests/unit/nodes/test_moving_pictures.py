import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from PIL import ImageSequence
from torch import Tensor

from limner.errors import UnfitInput
from limner.nodes.media.showing import LONGEST_SHOWN
from limner.nodes.media.svg import SVG
from tests.unit.nodes.media import INSIDE, TEXTS, call, moving


def animated(name: str, folder: Path, images: Tensor, **inputs: Any) -> tuple[Path, dict[str, Any]]:
    _, result = call(name, folder, images=images, filename_prefix="a", **inputs)
    assert result.ui["animated"] == [True]
    return folder / result.ui["images"][0]["filename"], result.ui


def frames_of(path: Path) -> tuple[Tensor, list[int]]:
    with Pictures.open(path) as file:
        pairs = [(np.array(each.convert("RGB")), each.info["duration"]) for each in ImageSequence.Iterator(file)]
    return torch.from_numpy(np.stack([each for each, _ in pairs])).float() / 255, [round(each) for _, each in pairs]


def webp(folder: Path, images: Tensor, **inputs: Any) -> Path:
    options = {"fps": 8.0, "lossless": True, "quality": 80, "method": "default", **inputs}
    return animated("SaveAnimatedWEBP", folder, images, **options)[0]


def test_a_lossless_webp_keeps_every_value(tmp_path: Path) -> None:
    images = moving(4)
    path = webp(tmp_path, images, **TEXTS)
    back, durations = frames_of(path)
    assert torch.equal(back, (images * 255).to(torch.uint8).float() / 255)
    assert durations == [125] * 4
    with Pictures.open(path) as file:
        exif = file.getexif()
    assert exif[0x0110] == "prompt:" + INSIDE["prompt"]
    assert exif[0x010F] == "workflow:" + INSIDE["workflow"]


def test_webp_follows_quality_and_method(tmp_path: Path) -> None:
    images = torch.rand(2, 64, 64, 3)
    sizes = {quality: webp(tmp_path, images, lossless=False, quality=quality).stat().st_size for quality in (5, 95)}
    assert sizes[5] < sizes[95] / 2
    slowest, fastest = (webp(tmp_path, moving(3), method=each).stat().st_size for each in ("slowest", "fastest"))
    assert slowest < fastest


def test_a_moving_png_keeps_every_value(tmp_path: Path) -> None:
    images = moving(4)
    path, ui = animated("SaveAnimatedPNG", tmp_path, images, fps=4.0, compress_level=9, **TEXTS)
    assert ui["images"] == [{"filename": "a_00001_.png", "subfolder": "", "type": "output"}]
    back, durations = frames_of(path)
    assert torch.equal(back, (images * 255).to(torch.uint8).float() / 255)
    assert durations == [250] * 4
    with Pictures.open(path) as file:
        assert file.text == INSIDE  # type: ignore[attr-defined]


def test_png_follows_its_compression(tmp_path: Path) -> None:
    sizes = [
        animated("SaveAnimatedPNG", tmp_path, moving(2), fps=4.0, compress_level=level)[0].stat().st_size
        for level in (0, 9)
    ]
    assert sizes[1] < sizes[0] / 3


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pictures_move_too(channels: int, tmp_path: Path) -> None:
    images = torch.rand(3, 8, 8, channels)
    assert frames_of(webp(tmp_path, images))[0].shape == (3, 8, 8, 3)
    path, _ = animated("SaveAnimatedPNG", tmp_path, images, fps=4.0, compress_level=4)
    assert frames_of(path)[0].shape == (3, 8, 8, 3)


def test_what_a_format_cannot_hold_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match="cannot be written as WEBP"):
        webp(tmp_path, torch.zeros(2, 1, 16384, 3))
    with pytest.raises(UnfitInput, match="pictures a second"):
        webp(tmp_path, moving(1), fps=math.nan)
    with pytest.raises(UnfitInput, match="method 'quick' is none of"):
        webp(tmp_path, moving(1), method="quick")
    with pytest.raises(UnfitInput, match="cannot be written"):
        webp(tmp_path, torch.zeros(0, 4, 4, 3))


def svg(folder: Path, *drawings: str, **inputs: Any) -> list[str]:
    data = SVG([io.BytesIO(each.encode()) for each in drawings])
    _, result = call("SaveSVGNode", folder, svg=data, filename_prefix="d", **inputs)
    return [(folder / each["filename"]).read_text() for each in result.ui["images"]]


def test_a_drawing_is_written_with_the_workflow_inside(tmp_path: Path) -> None:
    head = '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" title="a>b">'
    (written,) = svg(tmp_path, head + "<g/></svg>", **TEXTS)
    expected = {"prompt": TEXTS["prompt"], **TEXTS["extra_pnginfo"]}
    assert written == f"{head}<metadata><![CDATA[{json.dumps(expected)}]]></metadata><g/></svg>"


def test_an_empty_drawing_and_one_among_several_get_it_too(tmp_path: Path) -> None:
    assert (
        svg(tmp_path, "<svg/>", "<svg></svg>", prompt="]]>")
        == ['<svg><metadata><![CDATA[{"prompt": "]]]]><![CDATA[>"}]]></metadata></svg>'] * 2
    )


def test_without_a_workflow_a_drawing_stays_as_it_is(tmp_path: Path) -> None:
    assert svg(tmp_path, "<svg><g/></svg>") == ["<svg><g/></svg>"]


def test_what_is_no_drawing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match="is no SVG drawing"):
        svg(tmp_path, "<html></html>", **TEXTS)
    with pytest.raises(UnfitInput, match="no drawing to write"):
        svg(tmp_path)


def test_drawings_are_put_together() -> None:
    one, other = SVG([io.BytesIO(b"1")]), SVG([io.BytesIO(b"2"), io.BytesIO(b"3")])
    assert [each.getvalue() for each in one.combine(other).data] == [b"1", b"2", b"3"]
    assert len(SVG.combine_all([one, other, one]).data) == 4


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a\nb", "a\nb"),
        (5, "5"),
        (0.1, "0.1"),
        (True, "True"),
        (None, "None"),
        ([1, {"a": 2.5}], '[\n    1,\n    {\n        "a": 2.5\n    }\n]'),
        (torch.tensor([1.0, 2.0]), "tensor([1., 2.])"),
    ],
)
def test_any_value_is_shown_as_a_text(source: Any, text: str, tmp_path: Path) -> None:
    assert call("PreviewAny", tmp_path, source=source)[1].ui == {"text": [text]}


def test_a_value_that_cannot_describe_itself_is_named(tmp_path: Path) -> None:
    class Shy:
        def __str__(self) -> str:
            raise RuntimeError("no")

    (text,) = call("PreviewAny", tmp_path, source=Shy())[1].ui["text"]
    assert text == "a value of the type Shy, which cannot be shown: no"


def test_a_very_long_text_is_shown_in_part(tmp_path: Path) -> None:
    (text,) = call("PreviewAny", tmp_path, source="a" * 2 * LONGEST_SHOWN)[1].ui["text"]
    assert text.endswith(f"a... ({2 * LONGEST_SHOWN} characters)")
    assert len(text) < LONGEST_SHOWN + 100


def test_two_batches_are_compared(tmp_path: Path) -> None:
    one, other = torch.zeros(2, 4, 6, 3), torch.ones(1, 4, 6, 3)
    run, result = call("ImageCompare", tmp_path, image_a=one, image_b=other, **TEXTS)
    assert [each["prefix"] for each in run.files.reserved] == ["comfy.compare.a", "comfy.compare.b"]
    assert {each["type"] for each in run.files.reserved} == {"temp"}
    assert [len(result.ui[side]) for side in ("a_images", "b_images")] == [2, 1]
    with Pictures.open(tmp_path / result.ui["b_images"][0]["filename"]) as picture:
        assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_one_batch_may_be_missing(tmp_path: Path) -> None:
    _, result = call("ImageCompare", tmp_path, image_b=torch.zeros(1, 4, 6, 3))
    assert (len(result.ui["a_images"]), len(result.ui["b_images"])) == (0, 1)
    assert call("ImageCompare", tmp_path)[1].ui == {"a_images": [], "b_images": []}
