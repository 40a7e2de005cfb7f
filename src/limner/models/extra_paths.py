"""extra_model_paths.yaml: where else model files lie, in the form that ComfyUI reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.errors import Misconfigured

NOT_KINDS = frozenset({"base_path", "is_default"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraFolder:
    """A folder with files of one kind. is_default: it is searched before all others."""

    kind: str
    path: Path
    is_default: bool


def read_extra_paths(file: Path) -> list[ExtraFolder]:
    """The folders that a file names, in its order. Raises Misconfigured where it cannot be read.

    Sections bear any name. Each has folders by kind, one a line, relative to its `base_path`, which is relative to the
    file; `is_default: true` puts them before all others. `~` and `$NAME` are filled in.
    """
    import yaml

    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(
            f"{file} cannot be read ({error.strerror}); give the path of an extra_model_paths.yaml"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return []
    if not isinstance(content, dict):
        raise Misconfigured(f"{file} must hold sections, each with folders by kind (checkpoints: path)")
    return [each for name, section in content.items() for each in _folders(file, str(name), section)]


def _folders(file: Path, name: str, section: Any) -> Iterator[ExtraFolder]:
    if section is None:
        return
    if not isinstance(section, dict):
        raise Misconfigured(f"{file}: section {name} must hold folders by kind (checkpoints: path)")
    base = file.parent / _filled(str(section.get("base_path") or ""))
    for kind, paths in section.items():
        if kind in NOT_KINDS or paths is None:
            continue
        if not isinstance(paths, str):
            raise Misconfigured(f"{file}: {name}.{kind} must be a path, or several with one a line, not {paths!r}")
        for line in filter(None, map(str.strip, paths.split("\n"))):
            path = Path(os.path.normpath(base.absolute() / _filled(line)))
            yield ExtraFolder(kind=str(kind), path=path, is_default=bool(section.get("is_default", False)))


def _filled(path: str) -> str:
    return str(Path(os.path.expandvars(path)).expanduser()) if path else ""
