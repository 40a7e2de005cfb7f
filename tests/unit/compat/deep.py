"""A small model of SD1.x, a run in which pack code may be called, and the pack of tests/data/deep_packs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from limner.compat import packs as loading
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from tests.support.tiny import checkpoints, lora
from tests.unit.compat.conftest import Packs
from tests.unit.nodes.contexts import Run, run_in

DEEP = Path(__file__).parents[2] / "data" / "deep_packs"

CHECKPOINT, OTHER, LORA = "tiny.safetensors", "other.safetensors", "tiny_lora.safetensors"

WALK = {"seed": 7, "steps": 3, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"}


@dataclass
class Deep:
    """`run` tells what nodes told. Core nodes are called as classes, as packs do."""

    loaded: Packs
    folder: Path
    library: ModelLibrary
    classes: dict[str, Any]
    run: Run

    @property
    def nodes(self) -> Any:
        return sys.modules["nodes"]

    def pack(self, name: str, *values: Any, **named: Any) -> Any:
        """What a node of the pack gives."""
        return self.classes[name]().go(*values, **named)

    def core(self, name: str, *values: Any, **named: Any) -> Any:
        """The first output of a core node."""
        return self.nodes.NODE_CLASS_MAPPINGS[name].run(*values, **named)[0]

    def parts(self) -> tuple[Any, Any, Any]:
        model, clip, vae = self.nodes.CheckpointLoaderSimple().load_checkpoint(ckpt_name=CHECKPOINT)
        return model, clip, vae

    def conditionings(self, clip: Any) -> tuple[Any, Any]:
        encode = self.nodes.CLIPTextEncode().encode
        return encode(clip, "a cat")[0], encode(clip, "a dog")[0]

    def walked(self, model: Any, **changed: Any) -> Tensor:
        """What the core node KSampler makes of an empty latent."""
        _, clip, _ = self.parts()
        positive, negative = self.conditionings(clip)
        inputs = {**WALK, "positive": positive, "negative": negative, "latent_image": self.empty(), "denoise": 1.0}
        latent: Tensor = self.core("KSampler", model=model, **{**inputs, **changed})["samples"]
        return latent

    def empty(self) -> dict[str, Any]:
        latent: dict[str, Any] = self.nodes.EmptyLatentImage().generate(64, 64, 1)[0]
        return latent


@contextmanager
def deep_pack(loaded: Packs, folder: Path) -> Iterator[Deep]:
    checkpoints.save_sd15(folder / "checkpoints" / CHECKPOINT)
    checkpoints.save_sd15(folder / "checkpoints" / OTHER)
    lora.save_lora(folder / "loras" / LORA)
    library = ModelLibrary(ModelFolders([folder]))
    place = loaded.custom.place
    before, place.services = place.services, {ModelLibrary: library}
    run = run_in(folder, services=place.services)
    place.begin(run.ctx, {}, None)
    try:
        [found] = loading.find([DEEP])
        module = loading._run(found.module, found.path)
        yield Deep(loaded, folder, library, module.CLASSES, run)
    finally:
        place.end()
        place.services = before
