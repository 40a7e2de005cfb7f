"""The `output/` folder: a job's outputs once more, as ordinary files under their readable names."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

FIRST_TENANT = "default"


def folder_of(root: Path, tenant: str, subfolder: str) -> Path:
    """Where a tenant's files lie: the default tenant's at the top, as in ComfyUI."""
    home = root if tenant == FIRST_TENANT else root / "tenants" / tenant
    return home / subfolder


def place(source: Path, target: Path, *, replaces: Callable[[Path], bool] | None = None) -> Path:
    """Puts `source` at `target` at once and whole, by a hard link where the disk can do that.

    A file already there stays, and the new one gets ` (1)` or so behind its stem, unless `replaces` says that it is
    what an earlier attempt of the same job left. Gives the path it has in the end.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        _link_or_copy(source, staged)
        for candidate in _candidates(target):
            if _take_name(staged, candidate):
                return candidate
            if replaces is not None and replaces(candidate):
                staged.replace(candidate)
                return candidate
    finally:
        staged.unlink(missing_ok=True)
    raise FileExistsError(target)


def largest_number(folder: Path, prefix: str) -> int:
    """The largest NNNNN among files `PREFIX_NNNNN_...` of a folder, 0 if there is none (WIRE section 6)."""
    pattern = re.compile(re.escape(prefix) + r"_(\d+)(?:_|\.|$)")
    try:
        names = os.listdir(folder)  # noqa: PTH208 - ten times faster than iterdir on a folder of many files
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return max((int(match[1]) for name in names if (match := pattern.match(name))), default=0)


def _candidates(target: Path) -> Iterator[Path]:
    yield target
    for number in range(1, 10_000):
        yield target.with_name(f"{target.stem} ({number}){target.suffix}")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _take_name(staged: Path, target: Path) -> bool:
    """Gives the file its name unless the name is taken; no moment lies between the look and the deed."""
    try:
        target.hardlink_to(staged)
    except FileExistsError:
        return False
    except OSError:  # a disk without hard links
        try:
            target.open("xb").close()
        except FileExistsError:
            return False
        staged.replace(target)
    return True
