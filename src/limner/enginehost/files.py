"""A run's files inside the engine process: inputs from local paths, names of outputs from the supervisor."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from limner.engine.context import SavedFile
from limner.errors import BadName, NotFound

LETTERS = "abcdefghijklmnopqrstuvwxyz"
RANDOM_LETTERS = 12
MAX_NAME_CHARACTERS = 200
BATCH = "%batch_num%"

Ask = Callable[[str, str, str, int], list[dict[str, str]]]
"""(subfolder, prefix, extension, count) -> {"filename", "subfolder"} each: names that are this run's alone."""


class RunFiles:
    """`engine.context.Files` over a run's folder. Every file that a node wrote is told once, by `written`."""

    def __init__(self, *, folder: Path, inputs: Mapping[str, str], ask: Ask, now: float | None = None) -> None:
        self._folder = folder
        self._inputs = inputs
        self._ask = ask
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

    def written(self) -> list[dict[str, str]]:
        """The reserved files that are on disk since the last call, as the supervisor wants them."""
        done = [file for file in self._waiting if file.path.exists()]
        self._waiting = [file for file in self._waiting if file not in done]
        return [{"path": str(file.path), **file.ui()} for file in done]

    def _temp_names(self, subfolder: str, stem: str, extension: str, count: int) -> list[dict[str, str]]:
        """Random letters make these unique; nobody needs to be asked."""
        stem += "".join(secrets.choice(LETTERS) for _ in range(RANDOM_LETTERS))
        stems = [f"{stem.replace(BATCH, str(n))}_{n + 1:05}_{extension}" for n in range(count)]
        return [{"filename": name, "subfolder": subfolder} for name in stems]

    def _path(self, extension: str) -> Path:
        if not self._made:
            self._folder.mkdir(parents=True, exist_ok=True)
        self._made += 1
        return self._folder / f"{self._made}{extension}"


def fill_tokens(prefix: str, *, width: int, height: int, now: time.struct_time) -> str:
    """A `filename_prefix` with its size and time tokens replaced, as ComfyUI's server does it."""
    if "%" not in prefix:
        return prefix
    values = {"width": str(width), "height": str(height), "year": f"{now.tm_year}"}
    two_digits = {
        "month": now.tm_mon,
        "day": now.tm_mday,
        "hour": now.tm_hour,
        "minute": now.tm_min,
        "second": now.tm_sec,
    }
    values |= {name: f"{number:02}" for name, number in two_digits.items()}
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", value)
    return prefix


def split_prefix(prefix: str) -> tuple[str, str]:
    """(subfolder, file part) of a prefix. Raises BadName where it is absolute, holds `..` or control characters."""
    path = PurePosixPath(prefix.replace("\\", "/"))
    parts = path.parts
    drive = bool(parts) and ":" in parts[0]
    if path.is_absolute() or drive or ".." in parts or any(ord(letter) < 32 for letter in prefix):
        raise BadName(f"filename_prefix {prefix!r} leaves the output folder")
    if any(len(part.encode()) > MAX_NAME_CHARACTERS for part in parts):
        raise BadName(f"filename_prefix {prefix[:40]!r}... is longer than {MAX_NAME_CHARACTERS} bytes")
    ends_in_folder = prefix.endswith(("/", "\\")) or not parts
    folders, stem = (parts, "") if ends_in_folder else (parts[:-1], parts[-1])
    return "/".join(folders), stem
