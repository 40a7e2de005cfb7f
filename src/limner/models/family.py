"""Family: what each architecture must tell, and detect(), which finds the family of a file."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from limner.diffusion.latents import LatentFormat
from limner.models import families, unet_layout
from limner.models.checkpoint import Header
from limner.models.clip import Clip
from limner.models.device import Devices
from limner.models.model import Architecture, Model
from limner.models.text.embeddings import FindEmbedding
from limner.models.text.load import of_checkpoint
from limner.models.weights import Weights

DENOISER = "model.diffusion_model."
PREFIXES = (DENOISER, "", "diffusion_model.", "model.", "net.")
"""Behind which prefixes denoisers lie in files, the most usual first."""

VAES = ("first_stage_model.", "vae.", "pretransform.model.")
"""Behind which prefixes VAEs lie in checkpoints."""


class Family(Architecture, ABC):
    """One architecture: how to know its files, how to load them, how its network is called (see `Architecture`).

    latents: the space that its network works in. text: what `limner.models.text.load` calls its text encoders.
    """

    name: str
    title: str
    text: str
    latents: LatentFormat

    @abstractmethod
    def matches(self, denoiser: Header, file: Header) -> bool:
        """Whether the denoiser is of this family, told from keys and shapes alone, and no other's.

        denoiser: its part of the file, under keys without a prefix, UNets always in the original layout.
        """

    @abstractmethod
    def load_model(self, denoiser: Weights, file: Weights, devices: Devices) -> Model:
        """The denoiser, ready to run. Raises ModelFileError where it is not complete or cannot be run."""

    def load_clip(
        self, file: Weights, devices: Devices, embedding: FindEmbedding, tokenizers: Sequence[Path] = ()
    ) -> Clip:
        """The text encoders of a checkpoint. Raises ModelFileError where one is missing or does not fit.

        tokenizers: folders in which tokenizers may lie.
        """
        return of_checkpoint(self.text, file, devices, embedding, tokenizers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A denoiser in a file, and whose it is."""

    family: Family
    denoiser: Weights


def detect(file: Weights) -> Found:
    """The family of a file. Raises ModelFileError, which names what the file looks like and what could be read."""
    for denoiser in _denoisers(file):
        for family in known():
            if family.matches(denoiser.header, file.header):
                return Found(family=family, denoiser=denoiser)
    read = ", ".join(family.title for family in known())
    looks = next((what for key, what in LOOKS_LIKE if any(key in name for name in file)), None)
    guess = f"it looks like {looks}" if looks else "its architecture is unknown"
    raise file.header.fault(f"{guess}; this version reads models of: {read}")


def vae_of(file: Weights) -> Weights | None:
    """The VAE's part of a checkpoint; None where there is none."""
    found = (file.under(prefix) for prefix in VAES)
    return next((part for part in found if part), None)


@cache
def known() -> tuple[Family, ...]:
    """Every family in `limner.models.families`."""
    for module in pkgutil.iter_modules(families.__path__):
        importlib.import_module(f"{families.__name__}.{module.name}")
    return tuple(kind() for kind in _concrete(Family))  # type: ignore[type-abstract]


def _concrete(kind: type[Family]) -> Iterator[type[Family]]:
    for each in kind.__subclasses__():
        if not each.__abstractmethods__:
            yield each
        yield from _concrete(each)


def _denoisers(file: Weights) -> Iterator[Weights]:
    """The parts of a file that may be its denoiser."""
    for prefix in PREFIXES:
        part = file.under(prefix)
        if part and (prefix or not file.header.has(DENOISER)):
            if part.header.has("down_blocks.0.resnets.") and "conv_in.weight" in part:
                part = part.renamed(unet_layout.of_diffusers(part.header))
            yield part


LOOKS_LIKE = (
    ("distilled_guidance_layer.", "Chroma"),
    ("double_stream_modulation_img.", "Flux.2"),
    ("double_blocks.0.img_attn", "a relative of Flux.1, such as Flux.2 or HunyuanVideo"),
    ("joint_blocks.0.context_block.", "Stable Diffusion 3, not whole"),
    ("cap_embedder.0.weight", "Lumina 2"),
    ("transformer_blocks.0.img_mod.1.", "Qwen-Image"),
    ("blocks.0.cross_attn.norm_k.", "Wan"),
    ("double_layers.0.attn.w1q.", "AuraFlow"),
    ("lora_unet_", "a LoRA, not a model"),
    (".lora_up.", "a LoRA, not a model"),
    (".lora_A.", "a LoRA, not a model"),
    ("control_model.", "a ControlNet, not a model"),
    ("input_hint_block.", "a ControlNet, not a model"),
    ("controlnet_cond_embedding.", "a ControlNet, not a model"),
    ("model.diffusion_model.", "a checkpoint of another family"),
    ("first_stage_model.", "a VAE without a model"),
    ("cond_stage_model.", "text encoders without a model"),
    ("conditioner.", "text encoders without a model"),
    ("decoder.conv_in.weight", "a VAE, not a model; load it with VAELoader"),
    ("text_model.encoder.", "a text encoder, not a model; load it with CLIPLoader"),
    ("encoder.block.0.layer.0.SelfAttention.", "a T5 text encoder, not a model; load it with CLIPLoader"),
    ("vision_model.", "a CLIP vision model; load it with CLIPVisionLoader"),
)
"""Parts of keys, and what a file with such a key is; the first that fits counts."""
