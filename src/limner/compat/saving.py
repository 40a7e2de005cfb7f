"""SaveImage and PreviewImage as classes that packs subclass: where and how they write can be changed on the object."""

from __future__ import annotations

import random
import string
from pathlib import Path
from typing import Any

from limner.compat.place import here
from limner.nodes.media.saving import texts
from limner.nodes.pictures import to_bytes, write_png


class SaveImageBase:
    """`output_dir`, `type`, `prefix_append` and `compress_level` are read when pictures are saved."""

    def __init__(self) -> None:
        self.output_dir = str(here().folder / "output")
        self.type = "output"
        self.prefix_append = ""
        self.compress_level = 4

    def save_images(
        self, images: Any, filename_prefix: str = "ComfyUI", prompt: Any = None, extra_pnginfo: Any = None
    ) -> dict[str, Any]:
        """Writes PNG files with the workflow inside. The engine takes over those in the run's folders."""
        prefix = filename_prefix + self.prefix_append
        inside = texts(prompt, extra_pnginfo)
        saved = write_pictures(images, prefix, Path(self.output_dir), inside, self.compress_level)
        shown = [{"filename": name, "subfolder": subfolder, "type": self.type} for name, subfolder in saved]
        return {"ui": {"images": shown}}


class PreviewImageBase(SaveImageBase):
    def __init__(self) -> None:
        super().__init__()
        self.output_dir = str(here().folder / "temp")
        self.type = "temp"
        self.prefix_append = "_temp_" + "".join(random.choices(string.ascii_lowercase, k=5))
        self.compress_level = 1


def write_pictures(
    images: Any, prefix: str, folder: Path, inside: dict[str, str], compress_level: int
) -> list[tuple[str, str]]:
    """Writes pictures (B, H, W, C) below a folder, by ComfyUI's names. Gives (name, sub-folder) of each."""
    from limner.compat.modules import folder_paths

    pictures = to_bytes(images)
    _, height, width, _ = pictures.shape
    place, part, number, subfolder, _ = folder_paths.get_save_image_path(prefix, str(folder), width, height)
    saved = []
    for index, picture in enumerate(pictures):
        name = f"{part.replace('%batch_num%', str(index))}_{number + index:05}_.png"
        write_png(picture, Path(place) / name, inside, compress_level)
        saved.append((name, subfolder))
    return saved
