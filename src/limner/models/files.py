"""ModelFolders: the model files of this machine, by folder and name. No torch here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from limner.errors import ModelFileError

FOLDERS = ("checkpoints", "embeddings", "loras", "vae")
"""Folders that Limner reads, named as in ComfyUI."""

SUFFIXES = frozenset({".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin"})
"""What counts as a model file. Pickled ones are listed so that using one tells what is wrong with it."""

BUILTIN = Path(__file__).parent / "builtin"
"""Checkpoints that come with Limner."""


class ModelFolders:
    """Model files under some roots, each with `checkpoints/`, `loras/`, ... inside; sub-folders count.

    A name is the path below such a folder, with `/`. Where two roots have one name, the first root's file is meant.
    The checkpoints that come with Limner stand behind all roots.
    """

    def __init__(self, roots: Sequence[Path] = ()) -> None:
        self.roots = tuple(Path(root) for root in roots)

    def lists(self) -> dict[str, list[str]]:
        """The names in each folder, sorted."""
        return {folder: sorted(self.files(folder)) for folder in FOLDERS}

    def files(self, folder: str) -> dict[str, Path]:
        """Every file of a folder by its name, as it is on the disk now."""
        found: dict[str, Path] = {}
        for place in self._places(folder):
            for path in _model_files(place):
                found.setdefault(path.relative_to(place).as_posix(), path)
        return found

    def find(self, folder: str, name: str) -> Path:
        """The file of this name. Raises ModelFileError, which says where one could be put."""
        path = self.files(folder).get(name)
        if path is not None:
            return path
        places = ", ".join(str(place) for place in self._places(folder) if place != BUILTIN)
        where = f"put it into {places}" if places else "no model folder is set"
        raise ModelFileError(f"there is no {name!r} among the {folder}; {where}", folder=folder, name=name)

    def _places(self, folder: str) -> list[Path]:
        places = [root / folder for root in self.roots]
        return [*places, BUILTIN] if folder == "checkpoints" else places


def _model_files(place: Path) -> Iterator[Path]:
    """Model files below a place, through links too, but into no folder twice."""
    seen: set[str] = set()
    for parent, folders, names in os.walk(place, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [each for each in folders if not each.startswith(".")]
        yield from (Path(parent, name) for name in names if Path(name).suffix.lower() in SUFFIXES and name[0] != ".")
