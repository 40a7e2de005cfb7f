"""Nodes that write latents to files and read them again."""

from __future__ import annotations

import json
from typing import Annotated, Any

import torch

from limner.engine.context import RunContext
from limner.errors import UnfitInput
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.types import Choices, Hidden, InputFiles, Text
from limner.models.saving import write
from limner.models.weights import open_weights
from limner.nodes.image.files import file_digest
from limner.nodes.sockets import Latent

SAMPLES, VERSION = "latent_tensor", "latent_format_version_0"
OLD_SCALE = 0.18215
"""Files without a version hold latents of Stable Diffusion 1.x in its network's units."""


class LatentFiles(InputFiles):
    """One of the tenant's own latents; there is no upload button."""

    def __init__(self) -> None:
        Choices.__init__(self)
        self.upload = "latent"


def _digest(ctx: RunContext, latent: str) -> str:
    return file_digest(ctx, latent)


@node("SaveLatent", category="_for_testing", outputs=(), output_node=True)
def save_latent(
    ctx: RunContext,
    *,
    samples: Latent,
    filename_prefix: Annotated[str, Text()] = "latents/ComfyUI",
    prompt: Annotated[Any, Hidden("PROMPT")] = None,
    extra_pnginfo: Annotated[Any, Hidden("EXTRA_PNGINFO")] = None,
) -> Result:
    """Writes a latent to a file, with the workflow that made it. Its mask and its draws of noise are not kept."""
    if not isinstance(extra_pnginfo, dict | None):
        raise UnfitInput(f"extra_pnginfo is an object of things to write into files, not {extra_pnginfo!r:.100}")
    texts = {} if prompt is None else {"prompt": json.dumps(prompt)}
    texts |= {key: json.dumps(value) for key, value in (extra_pnginfo or {}).items()}
    (file,) = ctx.files.reserve(type="output", prefix=filename_prefix, count=1, width=0, height=0, extension=".latent")
    write(file.path, {SAMPLES: samples["samples"], VERSION: torch.zeros(0)}, texts)
    return Result(ui={"latents": [file.ui()]})


@node("LoadLatent", category="_for_testing", fingerprint=_digest)
def load_latent(ctx: RunContext, *, latent: Annotated[str, LatentFiles()]) -> Latent:
    """Reads a latent that SaveLatent wrote."""
    weights = open_weights(ctx.files.input(latent))
    if SAMPLES not in weights or len(weights.header.shape(SAMPLES) or ()) < 3:
        raise UnfitInput(f"{latent} holds no latent; SaveLatent writes such files")
    samples = weights.tensor(SAMPLES).float().clone()
    return {"samples": samples if VERSION in weights else samples / OLD_SCALE}
