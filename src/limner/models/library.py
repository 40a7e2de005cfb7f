"""ModelLibrary: model files by name, loaded once and kept while there is room."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from limner.errors import ModelFileError
from limner.models import build, residency
from limner.models.absent import absent
from limner.models.clip import Clip
from limner.models.clip_vision import ClipVision, load_clip_vision
from limner.models.configs import read_config
from limner.models.device import Devices, choose, on_cpu
from limner.models.diffusers_folder import read_folder
from limner.models.family import Found, detect, vae_of
from limner.models.files import TOKENIZERS, ModelFolders
from limner.models.model import Model
from limner.models.text.embeddings import read_embedding
from limner.models.text.load import of_files
from limner.models.tiny_vae import SPACES, load_tiny
from limner.models.vae import Vae
from limner.models.vae_kinds import PIXEL_SPACE, load_vae, pixel_space
from limner.models.weights import Weights, open_weights

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_KEPT = 64
"""How many files stay loaded at most, however small they are."""


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
            if path.is_dir():  # changed when a file in it is
                inner = [each.stat() for each in sorted(path.rglob("*")) if each.is_file()]
                newest = max((each.st_mtime_ns for each in inner), default=0)
                return cls(path, sum(each.st_size for each in inner), newest)
        except OSError as error:
            raise ModelFileError(f"{path.name} cannot be used: it cannot be read ({error.strerror})") from error
        return cls(path, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class _Kept:
    name: str
    size_bytes: int
    value: Any


class ModelLibrary:
    """The model files of this machine, and what was loaded from them. For one thread.

    keep: how many checkpoints and diffusion models stay loaded; the least recently used goes first. Their weights are
    mapped from the files, so that they cost memory only while they are in use (see `residency`).
    """

    def __init__(self, folders: ModelFolders, devices: Devices | None = None, *, keep: int = 8) -> None:
        self.folders = folders
        self.devices = devices or choose()
        self.keep = keep
        self._loaded: OrderedDict[Hashable, _Kept] = OrderedDict()

    def checkpoint(self, name: str) -> tuple[Model, Clip, Vae]:
        """A checkpoint's three parts; a part that it lacks raises ModelFileError once it is used."""
        return self.kept("checkpoints", name, self._checkpoint)

    def checkpoint_at(self, path: Path) -> tuple[Model, Clip, Vae]:
        """The same of a file that is told by its path, shared with those that are told by name."""
        version = FileVersion.of(path)
        key = ("checkpoints", version, None)
        return self._keep(key, path.name, version.size_bytes, lambda: self._checkpoint(path))

    def diffusion_model(self, name: str, weight_dtype: str = "default") -> Model:
        """A denoiser in a file of its own. weight_dtype: `default`, or an 8-bit type that weights are rounded to."""
        from limner.models.rounding import rounded

        def load(path: Path) -> Model:
            file = open_weights(path)
            found = detect(file)
            return _told(
                path, found, found.family.load_model(rounded(found.denoiser, weight_dtype), file, self.devices)
            )

        return self.kept("diffusion_models", name, load, variant=weight_dtype)

    def vae(self, name: str) -> Vae:
        """A VAE in a file of its own, or `pixel_space`."""
        if name == PIXEL_SPACE:
            return pixel_space()
        small = self.folders.small_vaes().get(name)
        if small is not None and name not in self.folders.files("vae"):
            return self._small_vae(name, *small)
        return self.kept("vae", name, lambda path: load_vae(open_weights(path), self.devices))

    def checkpoint_with_config(self, name: str, config_name: str) -> tuple[Model, Clip, Vae]:
        """A checkpoint under what a configuration file says of it (see `configs`)."""
        config = read_config(self.folders.find("configs", config_name))
        model, clip, vae = self.checkpoint(name)
        return config.of_model(model), config.of_clip(clip), vae

    def diffusers_folder(self, name: str) -> tuple[Model, Clip, Vae]:
        """The parts of a model in a folder of diffusers' layout."""
        return self.kept("diffusers", name, lambda path: self.load_checkpoint(read_folder(path)))

    def vision_of_checkpoint(self, name: str) -> ClipVision:
        """The vision model in an unCLIP checkpoint. Raises ModelFileError where the checkpoint has none."""

        def load(path: Path) -> ClipVision:
            file = open_weights(path)
            part = file.under(VISION)
            if not part:
                raise file.header.fault(f"it holds no vision model ({VISION}*); it is no unCLIP checkpoint")
            return load_clip_vision(part, self.devices)

        return self.kept("checkpoints", name, load, variant=VISION)

    def text_encoders(self, names: Sequence[str], type_: str, device: str = "default") -> Clip:
        """The text encoders in these files, joined as a loader's `type` says. device: "cpu" keeps them from the GPU."""
        paths = [self.folders.find("text_encoders", name) for name in names]
        devices = on_cpu() if device == "cpu" and self.devices.device.type != "cpu" else self.devices
        key = ("text_encoders", type_, devices.device, *(FileVersion.of(path) for path in paths))

        def load() -> Clip:
            files = [open_weights(path) for path in paths]
            places = self.folders.places(TOKENIZERS)
            return of_files(files, type_, devices, self._embedding, places)

        return self._keep(key, ", ".join(names), sum(each.stat().st_size for each in paths), load)

    def kept(self, folder: str, name: str, load: Callable[[Path], T], *, variant: Hashable = None) -> T:
        """What `load` makes of a file of this folder, from memory where the file has not changed.

        variant: tells apart what else is made of the same file. Raises ModelFileError where there is no such file.
        """
        path = self.folders.find(folder, name)
        version = FileVersion.of(path)
        return self._keep((folder, version, variant), name, version.size_bytes, lambda: load(path))

    def fingerprint(self, folder: str, name: str) -> tuple[str, int, int] | None:
        """What tells one state of a file from another; None where there is no such file."""
        mark = self.folders.mark(folder, name)
        return None if mark is None else (name, *mark)

    def resident(self) -> list[str]:
        """The names of the checkpoints and diffusion models in memory, the most recently used last."""
        entries = list(self._loaded.items())  # another thread may ask
        named = (kept.name for key, kept in reversed(entries) if isinstance(key, tuple) and key[0] in BASE)
        return list(dict.fromkeys(named))[::-1]

    def unload(self) -> None:
        """Forgets every network and frees the device. Cached outputs may still hold some, at home in their files."""
        self._loaded.clear()
        residency.free()

    def lists(self) -> dict[str, list[str]]:
        """The names of the files in each model folder, as they are on the disk now."""
        return self.folders.lists()

    def preload(self) -> None:
        """Imports what loading needs, so that the first checkpoint comes sooner."""
        build.preload()

    def load_checkpoint(self, file: Weights) -> tuple[Model, Clip, Vae]:
        """The three parts of a checkpoint, from its weights."""
        found = detect(file)
        model = found.family.load_model(found.denoiser, file, self.devices)
        vae = vae_of(file)
        loaded_vae = load_vae(vae, self.devices, model.model.latent_format) if vae is not None else None
        try:
            places = self.folders.places(TOKENIZERS)
            clip = found.family.load_clip(file, self.devices, self._embedding, places)
        except ModelFileError as error:
            if _has_text(file):
                raise
            clip = absent(Clip, error)
        if loaded_vae is None:
            fault = file.header.fault("it holds no VAE (first_stage_model.*); load one with VAELoader")
            return model, clip, absent(Vae, fault)
        return model, clip, loaded_vae

    def _checkpoint(self, path: Path) -> tuple[Model, Clip, Vae]:
        began = time.monotonic()
        loaded = self.load_checkpoint(open_weights(path))
        log.info("loaded %s (%s) in %.1f s", path.name, loaded[0].model.architecture.title, time.monotonic() - began)
        return loaded

    def _small_vae(self, name: str, encoder: Path, decoder: Path) -> Vae:
        files = [FileVersion.of(encoder), FileVersion.of(decoder)]

        def load() -> Vae:
            return load_tiny(open_weights(encoder), open_weights(decoder), SPACES[name], self.devices)

        return self._keep(("vae_approx", *files), name, sum(each.size_bytes for each in files), load)

    def _embedding(self, name: str) -> Any:
        return read_embedding(self.folders, name)

    def _keep(self, key: Hashable, name: str, size_bytes: int, load: Callable[[], T]) -> T:
        if key not in self._loaded:
            self._make_room(key, size_bytes)
            with torch.inference_mode(False), torch.no_grad():  # inside that mode, modules could not be given weights
                self._loaded[key] = _Kept(name, size_bytes, load())
        self._loaded.move_to_end(key)
        value: T = self._loaded[key].value
        return value

    def _make_room(self, key: Hashable, size_bytes: int) -> None:
        """Forgets the least recently used: too many base models, or more bytes than the machine is to hold."""

        def is_base(each: Hashable) -> bool:
            return isinstance(each, tuple) and each[0] in BASE

        bases = [each for each in self._loaded if is_base(each)]
        if is_base(key):
            for each in bases[: max(0, len(bases) - self.keep + 1)]:
                del self._loaded[each]
        budget = residency.BUDGET.ram
        held = sum(each.size_bytes for each in self._loaded.values())
        while self._loaded and (len(self._loaded) >= MOST_KEPT or (budget is not None and held + size_bytes > budget)):
            _, dropped = self._loaded.popitem(last=False)
            held -= dropped.size_bytes


VISION = "embedder.model."
"""Behind which prefix unCLIP checkpoints keep their vision model, in OpenCLIP's layout."""

BASE = frozenset({"checkpoints", "diffusion_models", "diffusers"})
"""Folders whose files are whole networks, which decide on which worker a job is best run."""


def _has_text(file: Weights) -> bool:
    return any(file.header.has(prefix) for prefix in ("cond_stage_model.", "conditioner.", "text_encoders."))


def _told(path: Path, found: Found, model: Model) -> Model:
    log.info("loaded %s (%s)", path.name, found.family.title)
    return model
