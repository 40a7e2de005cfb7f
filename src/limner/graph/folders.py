"""Which model folder a combo box offers: /object_info shows names only, and /models the names of each folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MOST_WORDS = 16
"""How many choices may stand beside a folder's files, such as "None" or "baked VAE"."""

USUAL = {
    "audio_encoder_name": "audio_encoders",
    "ckpt_name": "checkpoints",
    "clip_name": "text_encoders",
    "clip_vision_name": "clip_vision",
    "config_name": "configs",
    "control_net_name": "controlnet",
    "gligen_name": "gligen",
    "hypernetwork_name": "hypernetworks",
    "lora_name": "loras",
    "photomaker_model_name": "photomaker",
    "style_model_name": "style_models",
    "unet_name": "diffusion_models",
    "vae_name": "vae",
}
"""What an input of this name loads. It decides where two folders hold the same names, or none."""

USUAL_OF_CLASS = {
    ("CLIPVisionLoader", "clip_name"): "clip_vision",
    ("DiffusersLoader", "model_path"): "diffusers",
    ("ModelPatchLoader", "name"): "model_patches",
    ("UpscaleModelLoader", "model_name"): "upscale_models",
}


class Offer(NamedTuple):
    """The files of a folder, and the words that are offered before and after them."""

    folder: str
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()


class Folders:
    """The model files of one machine. `models`: file names by folder."""

    def __init__(self, models: Mapping[str, Sequence[str]]) -> None:
        self._files = {folder: frozenset(names) for folder, names in models.items()}
        self._known = frozenset().union(*self._files.values())
        self._found: dict[int, tuple[Sequence[Any], list[str]]] = {}  # by identity: many inputs share a list

    def offer(self, class_name: str, input_name: str, choices: Sequence[Any]) -> Offer | None:
        """The folder whose files these choices are; None where they are something else."""
        usual = USUAL_OF_CLASS.get((class_name, input_name)) or USUAL.get(re.sub(r"_?\d+$", "", input_name))
        folders = self._all_within(choices)
        if not folders:
            return self._empty(usual, choices)
        folder = usual if usual in folders else folders[0]
        files = self._files[folder]
        start = next(position for position, each in enumerate(choices) if each in files)
        words = [(position, each) for position, each in enumerate(choices) if each not in files]
        return Offer(
            folder,
            first=tuple(each for position, each in words if position < start),
            last=tuple(each for position, each in words if position > start),
        )

    def _all_within(self, choices: Sequence[Any]) -> list[str]:
        """The folders all of whose files are among the choices, with nothing but a few words beside them."""
        known = self._found.get(id(choices))
        if known is not None:
            return known[1]
        found: list[str] = []
        if choices and all(isinstance(each, str) for each in choices):
            offered = frozenset(choices)
            words = offered - self._known
            files = offered - words
            if files and len(words) <= MOST_WORDS:
                found = sorted(folder for folder, names in self._files.items() if names == files)
        self._found[id(choices)] = (choices, found)
        return found

    def _empty(self, usual: str | None, choices: Sequence[Any]) -> Offer | None:
        """An input that loads from a folder which is there and has no files yet."""
        if usual is None or self._files.get(usual) != frozenset() or len(choices) > MOST_WORDS:
            return None
        if not all(isinstance(each, str) and "." not in each for each in choices):
            return None
        return Offer(usual, first=tuple(choices))
