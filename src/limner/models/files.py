"""ModelFolders: the model files of this machine, by folder and name. No torch here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from limner.errors import ModelFileError
from limner.models.extra_paths import ExtraFolder, read_extra_paths

SUFFIXES = frozenset({".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl"})
"""What counts as a model file. Pickled ones are listed so that using one tells what is wrong with it."""

WHOLE_FOLDER = "folder"
"""In the place of a suffix: what counts are folders with a `model_index.json`, the layout of diffusers."""

FOLDERS: Mapping[str, tuple[str, ...]] = {
    "checkpoints": ("checkpoints",),
    "configs": ("configs",),
    "loras": ("loras",),
    "vae": ("vae",),
    "text_encoders": ("text_encoders", "clip"),
    "diffusion_models": ("unet", "diffusion_models"),
    "clip_vision": ("clip_vision",),
    "style_models": ("style_models",),
    "embeddings": ("embeddings",),
    "diffusers": ("diffusers",),
    "vae_approx": ("vae_approx",),
    "controlnet": ("controlnet", "t2i_adapter"),
    "gligen": ("gligen",),
    "upscale_models": ("upscale_models",),
    "hypernetworks": ("hypernetworks",),
    "photomaker": ("photomaker",),
    "classifiers": ("classifiers",),
    "model_patches": ("model_patches",),
    "audio_encoders": ("audio_encoders",),
}
"""The kinds of files, as ComfyUI names them, and the folders below a root in which each lies."""

OLDER_NAMES: Mapping[str, str] = {"clip": "text_encoders", "unet": "diffusion_models", "t2i_adapter": "controlnet"}
"""How some kinds were called before."""

SMALL_VAES = ("taesd", "taesdxl", "taesd3", "taef1")

COUNTED: Mapping[str, frozenset[str]] = {
    "configs": frozenset({".yaml"}),
    "diffusers": frozenset({WHOLE_FOLDER}),
    "classifiers": frozenset({""}),
}
"""What counts as a file of a kind, where it is not `SUFFIXES`."""

TOKENIZERS = "tokenizers"
"""Below a root: tokenizers of text encoders whose files bring none. No kind of its own: nodes do not offer them."""

EXTRA_PATHS = "extra_model_paths.yaml"
BUILTIN = Path(__file__).parent / "builtin"
"""Checkpoints that come with Limner."""

Table = dict[str, tuple[list[str], set[str]]]
"""By kind: the folders that are searched, and the suffixes that count (none: all do)."""


class ModelFolders:
    """Model files under some roots, each with `checkpoints/`, `loras/`, ... inside; sub-folders count.

    A name is the path below such a folder, with `/`. Where two folders have one name, the first one's file is meant.
    An `extra_model_paths.yaml` in a root or beside it is read, and those in `extra`; see `read_extra_paths`. The
    checkpoints that come with Limner stand behind all. `table` may be changed at any time, by node packs for instance.

    Raises Misconfigured for a damaged extra_model_paths.yaml.
    """

    def __init__(self, roots: Sequence[Path] = (), extra: Sequence[Path] = ()) -> None:
        self.roots = tuple(Path(root) for root in roots)
        self.table: Table = {
            kind: ([str(root / each) for root in self.roots for each in names], set(COUNTED.get(kind, SUFFIXES)))
            for kind, names in FOLDERS.items()
        }
        self.pack_folders: list[Path] = []
        beside = (place / EXTRA_PATHS for root in self.roots for place in (root, root.parent))
        for file in dict.fromkeys([*extra, *(each for each in beside if each.is_file())]):
            for each in read_extra_paths(file):
                self._add(each)

    def lists(self) -> dict[str, list[str]]:
        """The names of each kind, sorted."""
        lists = {kind: sorted(self.files(kind)) for kind in list(self.table)}
        return {**lists, "vae": [*lists.get("vae", ()), *self.small_vaes()]}

    def small_vaes(self) -> dict[str, tuple[Path, Path]]:
        """The small VAEs in `vae_approx` that are whole, by name: `taesd` has taesd_encoder and taesd_decoder files."""
        stems = {path.stem: path for path in self.files("vae_approx").values()}
        found = ((name, f"{name}_encoder", f"{name}_decoder") for name in SMALL_VAES)
        return {name: (stems[way_in], stems[out]) for name, way_in, out in found if way_in in stems and out in stems}

    def files(self, kind: str) -> dict[str, Path]:
        """Every file of a kind by its name, as it is on the disk now."""
        found: dict[str, Path] = {}
        suffixes = self.table.get(OLDER_NAMES.get(kind, kind), ([], set()))[1]
        for place in self.places(kind):
            paths = _whole_folders(place) if WHOLE_FOLDER in suffixes else _model_files(place, suffixes)
            for path in paths:
                found.setdefault(path.relative_to(place).as_posix(), path)
        return found

    def find(self, kind: str, name: str) -> Path:
        """The file of this name. Raises ModelFileError, which says where one could be put."""
        path = self.files(kind).get(name)
        if path is not None:
            return path
        places = ", ".join(str(place) for place in self.places(kind) if place != BUILTIN)
        where = f"put it into {places}" if places else "no model folder is set"
        raise ModelFileError(f"there is no {name!r} among the {kind}; {where}", folder=kind, name=name)

    def mark(self, kind: str, name: str) -> tuple[int, int] | None:
        """What tells whether a file is still the same: its size in bytes, and when it was written (ns). None: no file.

        Asked for each file that a workflow names, in each run: no folder is read for it.
        """
        for place in self.places(kind):
            try:
                found = (place / name).stat()
            except (OSError, ValueError):  # absent, or a name that no file can have
                continue
            return found.st_size, found.st_mtime_ns
        return None

    def places(self, kind: str) -> list[Path]:
        """The folders that are searched for a kind, or for `TOKENIZERS`, the first one first."""
        if kind == TOKENIZERS:
            return [root / TOKENIZERS for root in self.roots]
        kind = OLDER_NAMES.get(kind, kind)
        places = [Path(each) for each in self.table.get(kind, ([], set()))[0]]
        return [*places, BUILTIN] if kind == "checkpoints" else places

    def _add(self, extra: ExtraFolder) -> None:
        if extra.kind == "custom_nodes":
            self.pack_folders.append(extra.path)
            return
        kind = OLDER_NAMES.get(extra.kind, extra.kind)
        places = self.table.setdefault(kind, ([], set()))[0]
        path = str(extra.path)
        if path in places and not extra.is_default:
            return
        if path in places:
            places.remove(path)
        places.insert(0 if extra.is_default else len(places), path)


def _model_files(place: Path, suffixes: set[str]) -> Iterator[Path]:
    """Files below a place with one of these suffixes, or with any, through links too, but into no folder twice."""
    for parent, _, names in _walk(place):
        for name in names:
            if name[0] != "." and (not suffixes or Path(name).suffix.lower() in suffixes):
                yield Path(parent, name)


def _whole_folders(place: Path) -> Iterator[Path]:
    for parent, folders, names in _walk(place):
        if "model_index.json" in names and Path(parent) != place:
            folders.clear()
            yield Path(parent)


def _walk(place: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    seen: set[str] = set()
    for parent, folders, names in os.walk(place, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [each for each in folders if not each.startswith(".")]
        yield parent, folders, names
