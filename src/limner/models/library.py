"""ModelLibrary: checkpoints by name, loaded once and kept while there is room."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from limner.errors import ModelFileError
from limner.models import build
from limner.models.checkpoint import read_header
from limner.models.clip import Clip
from limner.models.device import Devices, choose
from limner.models.family import Checkpoint, detect
from limner.models.files import ModelFolders
from limner.models.model import Model
from limner.models.text.embeddings import read_embedding
from limner.models.vae import Vae

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FileVersion:
    """One state of a file: a changed file is another one."""

    path: Path
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileVersion:
        """The file's present state. Raises ModelFileError, for a link that leads nowhere among others."""
        try:
            status = path.stat()
        except OSError as error:
            raise ModelFileError(f"{path.name} cannot be used: it cannot be read ({error.strerror})") from error
        return cls(path, status.st_size, status.st_mtime_ns)


class ModelLibrary:
    """The model files of this machine, and the networks loaded from them. For one thread.

    keep: how many checkpoints stay loaded; the least recently used goes first.
    """

    def __init__(self, folders: ModelFolders, devices: Devices | None = None, *, keep: int = 2) -> None:
        self.folders = folders
        self.devices = devices or choose()
        self.keep = keep
        self._loaded: OrderedDict[FileVersion, tuple[str, Checkpoint]] = OrderedDict()

    def checkpoint(self, name: str) -> tuple[Model, Clip, Vae]:
        """A checkpoint's three parts, from memory where the file has not changed. Raises ModelFileError."""
        path = self.folders.find("checkpoints", name)
        version = FileVersion.of(path)
        if version in self._loaded:
            self._loaded.move_to_end(version)
        else:
            self._drop(len(self._loaded) - self.keep + 1)
            self._loaded[version] = name, self._load(path)
        _, loaded = self._loaded[version]
        return loaded.model, loaded.clip, loaded.vae

    def resident(self) -> list[str]:
        """The names of the checkpoints in memory, the most recently used last."""
        return [name for name, _ in list(self._loaded.values())]  # another thread may ask

    def unload(self) -> None:
        """Forgets every network. Its memory comes back once no cached output holds it any more."""
        self._loaded.clear()
        if self.devices.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    def lists(self) -> dict[str, list[str]]:
        """The names of the files in each model folder, as they are on the disk now."""
        return self.folders.lists()

    def preload(self) -> None:
        """Imports what loading needs, so that the first checkpoint comes sooner."""
        build.preload()

    def _load(self, path: Path) -> Checkpoint:
        began = time.monotonic()
        header = read_header(path)
        family = detect(header)
        loaded = family.load(header, self.devices, lambda name: read_embedding(self.folders, name))
        log.info("loaded %s (%s) in %.1f s", path.name, family.title, time.monotonic() - began)
        return loaded

    def _drop(self, count: int) -> None:
        for _ in range(count):
            self._loaded.popitem(last=False)
