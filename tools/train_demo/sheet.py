"""Sheets of sample pictures with their prompts."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .common import to_images

PROMPTS = (
    *("apple", "a strawberry", "banana", "a photo of a lemon", "watermelon", "grapes", "pizza", "a burger"),
    *("birthday cake", "donut", "ice cream", "a cup of coffee", "bread", "cheese", "carrot", "avocado"),
    *("a cat", "a dog", "fox", "panda", "a green frog", "lion", "rabbit", "penguin"),
    *("owl", "parrot", "a fish", "whale", "octopus", "crab", "turtle", "butterfly"),
    *("a tree", "pine tree", "palm tree", "cactus", "sunflower", "a red rose", "tulip", "mushroom"),
    *("red car", "police car", "fire truck", "train", "bus", "tractor", "airplane", "rocket"),
    *("house", "castle", "mountain", "beautiful landscape", "sunset", "rainbow", "sun", "planet"),
    *("red heart", "green heart", "happy face", "smiling face with sunglasses", "robot", "ghost", "guitar"),
    "beautiful scenery nature glass bottle landscape, , purple galaxy bottle,",
)


def captioned(pictures: Tensor, captions: list[str], columns: int, up: int = 2) -> Image.Image:
    """Pictures in rows, each above its caption."""
    font = ImageFont.load_default(11)
    images = to_images(pictures)
    side, line, gap = images[0].width * up, 16, 8
    out = Image.new(
        "RGB", (columns * (side + gap) + gap, -(-len(images) // columns) * (side + line + gap) + gap), "white"
    )
    pen = ImageDraw.Draw(out)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = gap + place % columns * (side + gap), gap + place // columns * (side + line + gap)
        out.paste(image.resize((side, side), Image.Resampling.BICUBIC), (left, top))
        while pen.textlength(caption, font=font) > side:
            caption = caption.removesuffix("…")[:-1] + "…"
        pen.text((left + side / 2, top + side), caption, fill="#333", font=font, anchor="ma")
    return out


def write(pictures: Tensor, captions: list[str], target: Path, columns: int = 8, up: int = 2) -> None:
    """Writes a captioned sheet."""
    captioned(pictures, captions, columns, up).save(target, optimize=True)
