"""A pack's files for the browser: WEB_DIRECTORY, or `web` under `[tool.comfy]` in its pyproject.toml."""

from __future__ import annotations

import base64
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from limner.compat.pack import Found

MOST_FILE_BYTES = 4 * 2**20
MOST_BYTES = 24 * 2**20
"""Of all packs together: the files travel in the catalogue, of which 64 MiB is the most."""


def web_folders(module: ModuleType, found: Found) -> dict[str, Path]:
    """Name under /extensions -> folder. One that does not exist, or leaves the pack, is not served."""
    if not found.path.is_dir():
        return {}
    wanted: dict[str, Any] = {}
    project = _project(found.path)
    web = project.get("tool", {}).get("comfy", {}).get("web")
    if isinstance(web, str) and web:
        wanted[str(project.get("project", {}).get("name") or found.name)] = web
    if isinstance(given := getattr(module, "WEB_DIRECTORY", None), str) and given:
        wanted[found.name] = given
    folders = {name: (found.path / path).resolve() for name, path in wanted.items()}
    return {name: path for name, path in folders.items() if path.is_dir() and path.is_relative_to(found.path.resolve())}


def gathered(folders: Mapping[str, Path]) -> tuple[dict[str, str], list[str]]:
    """(path under /extensions -> content in base 64, paths left out for their size)."""
    files: dict[str, str] = {}
    left_out: list[str] = []
    total = 0
    for name, folder in folders.items():
        for path in _files(folder):
            served = f"{name}/{path.relative_to(folder).as_posix()}"
            size = path.stat().st_size
            if size > MOST_FILE_BYTES or total + size > MOST_BYTES:
                left_out.append(served)
                continue
            total += size
            files[served] = base64.b64encode(path.read_bytes()).decode()
    return files, left_out


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _project(folder: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}
