"""What packs import of k-diffusion's helpers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from PIL import Image as Pictures

from limner.compat.modules.comfy.k_diffusion.sampling import append_dims as append_dims


class FolderOfImages:
    """The pictures of a folder and all below it, as `(picture,)` by number."""

    IMG_EXTENSIONS: ClassVar[set[str]] = {".png", ".jpg", ".jpeg", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}

    def __init__(self, root: str | Path, transform: Any = None) -> None:
        self.root = Path(root)
        self.transform = transform or (lambda picture: picture)
        self.paths = sorted(path for path in self.root.rglob("*") if path.suffix.lower() in self.IMG_EXTENSIONS)

    def __repr__(self) -> str:
        return f'FolderOfImages(root="{self.root}", len: {len(self)})'

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int) -> tuple[Any]:
        with Pictures.open(self.paths[key]) as picture:
            return (self.transform(picture.convert("RGB")),)
