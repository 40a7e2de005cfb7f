"""SaveImage and PreviewImage as classes that packs subclass: where and how they write can be changed on the object."""

from __future__ import annotations

import random
import string
from pathlib import Path
from typing import Any

from limner.compat.place import here
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
        from limner.compat.modules import folder_paths
        from limner.nodes.image.files import png_texts

        pictures = to_bytes(images)
        _, height, width, _ = pictures.shape
        folder, part, number, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix + self.prefix_append, self.output_dir, width, height
        )
        texts = png_texts(prompt, extra_pnginfo)
        saved = []
        for index, picture in enumerate(pictures):
            name = f"{part.replace('%batch_num%', str(index))}_{number + index:05}_.png"
            write_png(picture, Path(folder) / name, texts, self.compress_level)
            saved.append({"filename": name, "subfolder": subfolder, "type": self.type})
        return {"ui": {"images": saved}}


class PreviewImageBase(SaveImageBase):
    def __init__(self) -> None:
        super().__init__()
        self.output_dir = str(here().folder / "temp")
        self.type = "temp"
        self.prefix_append = "_temp_" + "".join(random.choices(string.ascii_lowercase, k=5))
        self.compress_level = 1
