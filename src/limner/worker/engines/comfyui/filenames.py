"""The files that nodes name in what they show: found there, and renamed.

Core nodes tell `{"images": [{"filename", "subfolder", "type"}]}`, and packs the like under keys of their own: `gifs`,
`audio`, `latents`, `3d`, `a_images`, ... So the key does not matter.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from limner.graph.literals import split_mark

FOLDERS = ("output", "temp", "input")
LONGEST_NAME = 255  # bytes, the limit of the common file systems
LONGEST_PATH = 1024

SCENE = re.compile(r"\.(glb|gltf|obj|stl|ply|fbx|dae|usdz|splat|ksplat|spz|png|jpe?g|webp|hdr|exr)$", re.IGNORECASE)
"""Previews of 3D models tell bare paths: of the model, and of the picture behind it."""
PICTURE = re.compile(r"^[^/\\]+\.(png|jpe?g|webp)$", re.IGNORECASE)

UNFIT = re.compile(r"[\x00-\x1f\x7f]")
DRIVE = re.compile(r"^([A-Za-z]):")
EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,10}")
SCENES = "result"
BESIDE = "workflow"
FULL_PATH = "fullpath"

Place = tuple[str, str, str]
"""Where a file lies on the instance: type, subfolder, filename."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A file as a node names it. `sure`: the node says that it is one; else it only looks like one."""

    type: str
    subfolder: str
    filename: str
    sure: bool = True
    bare: bool = False  # told as a mere path: what shows it expects no folders but those
    beside: Place | None = None  # the file that it belongs to, and stays with

    @property
    def place(self) -> Place:
        return self.type, self.subfolder, self.filename


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The name under which Limner shows a file."""

    type: str
    subfolder: str
    filename: str

    @property
    def path(self) -> str:
        return posixpath.join(self.subfolder, self.filename)

    @property
    def bare(self) -> str:
        """As a scene's path: of the output folder, unless it says `temp/`."""
        return posixpath.join("temp" if self.type == "temp" else "", self.path)


def files_in(ui: dict[str, Any]) -> dict[Place, Told]:
    """What a node's `ui` names: any object with a `filename`, under any key, and bare paths of scenes."""
    found: dict[Place, Told] = {}
    for key, shown in ui.items():
        for value in _within(shown):
            named = _named_by(value) if isinstance(value, dict) else _scene(value) if key == SCENES else ()
            for told in named:
                found.setdefault(told.place, told)
    return found


def renamed(ui: dict[str, Any], names: Mapping[Place, Kept]) -> dict[str, Any]:
    """The same `ui` with the names under which the files are kept."""
    return {key: _renamed(value, names, scenes=key == SCENES) for key, value in ui.items()}


def folder_of(subfolder: str) -> str:
    """A subfolder as Limner names it, whatever system the instance runs on."""
    tidy = DRIVE.sub(r"\1_", UNFIT.sub("_", subfolder.replace("\\", "/")))
    return "/".join(filename_of(part) for part in tidy.split("/") if part not in ("", ".", ".."))


def filename_of(name: str) -> str:
    """A file name that Limner can keep: of one that is too long, the beginning and the extension."""
    tidy = UNFIT.sub("_", name)
    if len(tidy.encode()) <= LONGEST_NAME:
        return tidy
    extension = extension_of(tidy)
    return tidy.encode()[: LONGEST_NAME - len(extension)].decode(errors="ignore") + extension


def extension_of(name: str) -> str:
    """`.png` and the like, "" where there is none that every system knows."""
    suffix = PurePosixPath(name).suffix
    return suffix if EXTENSION.fullmatch(suffix) else ""


def _within(value: Any) -> Iterator[dict[str, Any] | str]:
    """Every object in a value, at any depth, and every text in its lists."""
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, str))
    elif isinstance(value, dict):
        yield value
    inner: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from _within(each)


def _named_by(value: dict[str, Any]) -> Iterator[Told]:
    """The file that an object names, and the picture with the workflow that video nodes put beside it."""
    filename, subfolder, kind = value.get("filename"), value.get("subfolder") or "", value.get("type") or ""
    if not (isinstance(filename, str) and isinstance(subfolder, str) and isinstance(kind, str)):
        return
    name, mark = split_mark(filename)
    folder, name = _split(name)
    kind = mark or kind or "output"
    if name in ("", ".", "..") or kind not in FOLDERS:
        return
    subfolder = posixpath.join(subfolder, folder) if folder else subfolder
    told = Told(type=kind, subfolder=subfolder, filename=name, sure="type" in value or "subfolder" in value)
    yield told
    beside = value.get(BESIDE)
    if isinstance(beside, str) and PICTURE.search(beside):
        yield Told(type=kind, subfolder=subfolder, filename=beside, sure=False, beside=told.place)


def _scene(path: str) -> Iterator[Told]:
    """The file that a mere path names, if it looks like one: in the output folder, or below `temp/` in that one."""
    if SCENE.search(path) and len(path) <= LONGEST_PATH and "\n" not in path:
        folder, name = _split(path)
        in_temp = folder == "temp" or folder.startswith("temp/")
        folder = folder.removeprefix("temp").strip("/") if in_temp else folder
        yield Told(type="temp" if in_temp else "output", subfolder=folder, filename=name, sure=False, bare=True)


def _renamed(value: Any, names: Mapping[Place, Kept], *, scenes: bool) -> Any:
    if isinstance(value, list):
        return [_renamed(each, names, scenes=scenes) for each in value]
    if isinstance(value, str) and scenes:
        kept = [names[told.place] for told in _scene(value) if told.place in names]
        return kept[0].bare if kept else value
    if not isinstance(value, dict):
        return value
    found = {key: _renamed(each, names, scenes=False) for key, each in value.items()}
    for told in _named_by(value):
        name = names.get(told.place)
        if name is not None and told.beside is not None:
            found[BESIDE] = name.filename
        elif name is not None:
            found |= asdict(name)
            if FULL_PATH in found:  # of the instance's machine
                found[FULL_PATH] = name.path
    return found


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.replace("\\", "/").rpartition("/")
    return folder, name
