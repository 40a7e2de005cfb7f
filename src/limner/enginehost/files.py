"""A run's files inside the engine process: inputs from local paths, names of outputs from the supervisor."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from limner.engine.context import SavedFile
from limner.engine.prefixes import BATCH, fill_tokens, split_prefix
from limner.errors import NotFound

LETTERS = "abcdefghijklmnopqrstuvwxyz"
RANDOM_LETTERS = 12

Ask = Callable[[str, str, str, int], list[dict[str, str]]]
"""(subfolder, prefix, extension, count) -> {"filename", "subfolder"} each: names that are this run's alone."""

Keep = Callable[[str, str, str], dict[str, str]]
"""(subfolder, filename, sha256) -> {"filename", "subfolder"}: the name itself, or another where other bytes have it."""


class RunFiles:
    """`engine.context.Files` over a run's folder. Every file that a node wrote is told once, by `written`."""

    def __init__(
        self, *, folder: Path, inputs: Mapping[str, str], ask: Ask, keep: Keep, now: float | None = None
    ) -> None:
        self._folder = folder
        self._inputs = inputs
        self._ask = ask
        self._keep = keep
        self._now = time.localtime(now)
        self._made = 0
        self._waiting: list[SavedFile] = []

    def input(self, reference: str) -> Path:
        """The local copy of an input file. Raises NotFound where the job has no such input."""
        try:
            return Path(self._inputs[reference])
        except KeyError:
            raise NotFound(f"this job has no input file {reference!r}") from None

    def reserve(
        self, *, type: str, prefix: str, count: int, width: int, height: int, extension: str
    ) -> list[SavedFile]:
        """Names and paths for `count` new files. Raises BadName where the prefix leaves the output folder."""
        subfolder, stem = split_prefix(fill_tokens(prefix, width=width, height=height, now=self._now))
        if type == "temp":
            names = self._temp_names(subfolder, stem, extension, count)
        else:
            names = self._ask(subfolder, stem, extension, count)
        files = [SavedFile(path=self._path(extension), type=type, **name) for name in names]
        self._waiting += files
        return files

    def adopt(self, path: Path, *, type: str, subfolder: str, filename: str) -> SavedFile:
        """A file that a node has named itself. Temporary ones get letters behind their names: none is met twice.

        Raises BadName where the name leaves its folder.
        """
        subfolder, filename = split_prefix(f"{subfolder}/{filename}".lstrip("/"))
        suffix = PurePosixPath(filename).suffix
        if type == "temp":
            name = {"filename": f"{filename.removesuffix(suffix)}{_letters()}{suffix}", "subfolder": subfolder}
        else:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            name = self._keep(subfolder, filename, digest)
        saved = SavedFile(path=self._path(suffix), type=type, **name)
        _link(path, saved.path)
        self._waiting.append(saved)
        return saved

    def written(self) -> list[dict[str, str]]:
        """The reserved files that are on disk since the last call, as the supervisor wants them."""
        done = [file for file in self._waiting if file.path.exists()]
        self._waiting = [file for file in self._waiting if file not in done]
        return [{"path": str(file.path), **file.ui()} for file in done]

    def _temp_names(self, subfolder: str, stem: str, extension: str, count: int) -> list[dict[str, str]]:
        """Random letters make these unique; nobody needs to be asked."""
        stem += _letters()
        stems = [f"{stem.replace(BATCH, str(n))}_{n + 1:05}_{extension}" for n in range(count)]
        return [{"filename": name, "subfolder": subfolder} for name in stems]

    def _path(self, extension: str) -> Path:
        if not self._made:
            self._folder.mkdir(parents=True, exist_ok=True)
        self._made += 1
        return self._folder / f"{self._made}{extension}"


def _letters() -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(RANDOM_LETTERS))


def _link(source: Path, target: Path) -> None:
    """The same bytes under a second name, without copying them where the disk allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
