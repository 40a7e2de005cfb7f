"""One input as a ComfyUI's /object_info shows it, read as an InputSpec."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

from limner.graph.folders import Folders
from limner.graph.plain import is_text, plain
from limner.graph.spec import InputSpec
from limner.graph.types import ANY, COMBO, is_dynamic

NO_FILE = frozenset({"", "-", "auto", "default", "empty", "none", "null"})
"""Choices of an upload box that are no files, in small letters."""

UPLOADS = {"animated_image": "image", "audio": "audio", "image": "image", "video": "video"}
"""Kinds of upload buttons, by the option that shows them without its `_upload`. All others take any file."""

WITHOUT_BUTTON = {("LoadLatent", "latent"): "latent", ("RecordAudio", "audio"): "audio"}
"""Input files that core classes take without an upload button, by class and input."""

OWN_UPLOADS = re.compile(
    r"(?:3d[/\\])?limner(?:[/\\][0-9a-f]{32}(?:[/\\].*)?)?|limner_[0-9a-f]{32}_.*", re.DOTALL
)  # fmt: skip
"""Limner's own uploads in a ComfyUI's input folder: they come and go with the jobs, and are nobody's choice."""


class InputReader:
    """Reads the inputs of one ComfyUI. Equal lists of choices become one list: hundreds of inputs may share it."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._lists: dict[tuple[str, ...], list[Any]] = {}

    def read(self, class_name: str, name: str, kind: str, shown: Any) -> InputSpec | None:
        """`shown`: `[type, options]`, or what packs make of it. None where it tells no type."""
        if kind == "hidden":
            return _hidden(name, shown)
        if isinstance(shown, str):  # a pack that wrote ("IMAGE") for ("IMAGE",)
            shown = [shown]
        if not isinstance(shown, list) or not shown:
            return None
        options = shown[1] if len(shown) > 1 and isinstance(shown[1], dict) else None
        spec = InputSpec(
            name=name,
            type=shown[0] if is_text(shown[0]) else ANY,
            options={} if options is None else _options(options, without="options" if shown[0] == COMBO else None),
            kind=kind,
            has_options=options is not None,
            any_type=not is_text(shown[0]) or shown[0] == ANY or is_dynamic(shown[0]),
        )
        if isinstance(shown[0], list):
            return self._choosing(class_name, replace(spec, any_type=False, type=[]), shown[0])
        if spec.type == COMBO and options is not None and isinstance(options.get("options"), list):
            return self._choosing(class_name, spec, options["options"])
        button = upload_kind(spec.options) if spec.type == COMBO else WITHOUT_BUTTON.get((class_name, name))
        return spec if button is None else _uploading(spec, button)

    def _choosing(self, class_name: str, spec: InputSpec, shown: list[Any]) -> InputSpec:
        """A combo box: of an instance's input files, of a folder's models, or of whatever the pack says."""
        choices = self.choices(shown)
        upload = upload_kind(spec.options) or WITHOUT_BUTTON.get((class_name, spec.name))
        if upload is not None:
            words = tuple(each for each in choices if isinstance(each, str) and each.lower() in NO_FILE)
            return replace(_uploading(spec.with_choices([]), upload), first=words)
        offer = self._folders.offer(class_name, spec.name, choices)
        if offer is None:
            return spec.with_choices(choices)
        return replace(spec.with_choices([]), folder=offer.folder, first=offer.first, last=offer.last)

    def choices(self, shown: list[Any]) -> list[Any]:
        """What JSON can hold of them. Do not change the list: others have it too."""
        if not all(type(each) is str for each in shown):
            return [plain(each) for each in shown]
        key = tuple(shown)
        if key not in self._lists:
            self._lists[key] = [each for each in shown if is_text(each) and not OWN_UPLOADS.fullmatch(each)]
        return self._lists[key]


def upload_kind(options: dict[str, Any]) -> str | None:
    """What an upload button beside an input takes: image, video, audio or (any) file; None where there is no button."""
    for key, value in options.items():
        if value is True and (key == "upload" or key.endswith("_upload")):
            return UPLOADS.get(key.removesuffix("_upload"), "file")
    return None


def _hidden(name: str, shown: Any) -> InputSpec | None:
    value = shown[0] if isinstance(shown, list) and shown else shown
    return InputSpec(name=name, type=value, kind="hidden") if is_text(value) else None


def _uploading(spec: InputSpec, kind: str) -> InputSpec:
    """An input that takes uploads: which files it offers is for each tenant to see, and so is its default."""
    options = {name: value for name, value in spec.options.items() if name != "default"}
    return replace(spec, options=options, upload=kind)


def _options(shown: dict[Any, Any], *, without: str | None) -> dict[str, Any]:
    """What JSON can hold of them. Limits are numbers, or there are none."""
    return {
        name: plain(value)
        for name, value in shown.items()
        if is_text(name)
        and name != without
        and not (isinstance(value, float) and not math.isfinite(value))
        and not (name in ("min", "max") and (isinstance(value, bool) or not isinstance(value, int | float)))
    }
