"""Family: what each architecture must tell, and detect(), which finds the family of a file."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache

from limner.diffusion.latents import LatentFormat
from limner.models import families
from limner.models.checkpoint import Header
from limner.models.clip import Clip
from limner.models.device import Devices
from limner.models.model import Model
from limner.models.text.embeddings import FindEmbedding
from limner.models.vae import Vae


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The three parts of a loaded file."""

    model: Model
    clip: Clip
    vae: Vae


class Family(ABC):
    """One architecture: how to know its files and how to load them."""

    name: str
    title: str
    latents: LatentFormat

    @abstractmethod
    def matches(self, header: Header) -> bool:
        """Whether the file is of this family, told from keys and shapes alone."""

    @abstractmethod
    def load(self, header: Header, devices: Devices, embedding: FindEmbedding) -> Checkpoint:
        """The file's networks, ready to run. Raises ModelFileError where a part is missing or does not fit."""


def detect(header: Header) -> Family:
    """The family of a file. Raises ModelFileError, which names what the file looks like and what could be read."""
    for family in known():
        if family.matches(header):
            return family
    read = ", ".join(family.title for family in known())
    looks = next((what for key, what in LOOKS_LIKE if any(key in name for name in header.shapes)), None)
    guess = f"it looks like {looks}" if looks else "its architecture is unknown"
    raise header.fault(f"{guess}; this version reads checkpoints of: {read}")


@cache
def known() -> tuple[Family, ...]:
    """Every family in `limner.models.families`."""
    for module in pkgutil.iter_modules(families.__path__):
        importlib.import_module(f"{families.__name__}.{module.name}")
    return tuple(kind() for kind in Family.__subclasses__())


LOOKS_LIKE = (
    ("conditioner.embedders.1.", "Stable Diffusion XL"),
    ("conditioner.embedders.0.model.", "the refiner of Stable Diffusion XL"),
    ("cond_stage_model.model.", "Stable Diffusion 2"),
    ("joint_blocks.0.context_block.", "Stable Diffusion 3"),
    ("double_blocks.0.img_attn.", "Flux"),
    ("lora_unet_", "a LoRA, not a checkpoint"),
    (".lora_up.", "a LoRA, not a checkpoint"),
    (".lora_A.", "a LoRA, not a checkpoint"),
    ("control_model.", "a ControlNet, not a checkpoint"),
    ("down_blocks.0.resnets.", "one part in the layout of diffusers, not a checkpoint"),
    ("model.diffusion_model.", "a checkpoint of another family"),
    ("first_stage_model.", "a VAE without a model"),
    ("decoder.conv_in.weight", "a VAE, not a checkpoint"),
    ("text_model.encoder.", "a text encoder, not a checkpoint"),
)
"""Parts of keys, and what a file with such a key is; the first that fits counts."""
