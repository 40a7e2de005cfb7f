"""Pipelines of transformers on a straight path: Flux.1, Stable Diffusion 3, Z-Image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from tokenizers import Tokenizer
from torch import Tensor

from limner.diffusion.levels import Levels
from limner.diffusion.schedules import sigmas
from limner.models.text.sentencepiece import tokenizer_of
from tests.parity.theirs import as_pictures, quiet
from tests.support.tiny.text_encoders import SPIECE

WIDTH, HEIGHT = 96, 64
"""Whole tokens: these pipelines know no others."""

CHANNELS = 16


class Ids:
    """What pipelines ask of a tokenizer. ids: of a text. ends: what stands behind it, before it is filled up."""

    def __init__(self, ids: Callable[[str], Sequence[int]], ends: Sequence[int], pad: int) -> None:
        self.ids, self.ends, self.pad = ids, list(ends), pad
        self.model_max_length = 512
        self.added_tokens_encoder: dict[str, int] = {}

    def __call__(self, prompt: str | list[str], *, max_length: int = 0, **_: Any) -> SimpleNamespace:
        rows = [[*self.ids(each), *self.ends] for each in ([prompt] if isinstance(prompt, str) else prompt)]
        wanted = max(max_length, *map(len, rows))
        filled = [row + [self.pad] * (wanted - len(row)) for row in rows]
        told = [[1] * len(row) + [0] * (wanted - len(row)) for row in rows]
        return SimpleNamespace(input_ids=torch.tensor(filled), attention_mask=torch.tensor(told))

    def tokenize(self, prompt: str) -> list[str]:
        """Asked for by pipelines that look for learned words in a prompt."""
        return prompt.split()

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        """As Qwen3's own template has it, with thinking allowed."""
        (message,) = messages
        return f"<|im_start|>user\n{message['content']}<|im_end|>\n<|im_start|>assistant\n"


def t5_ids() -> Ids:
    tokenizer = tokenizer_of(SPIECE.read_bytes())
    return Ids(lambda text: tokenizer.encode(text, add_special_tokens=False).ids, ends=[1], pad=0)


def qwen_ids(path: Path) -> Ids:
    tokenizer = Tokenizer.from_file(str(path))
    return Ids(lambda text: tokenizer.encode(text, add_special_tokens=False).ids, ends=[], pad=0)


def walk(levels: Levels, steps: int = 3) -> list[float]:
    told: list[float] = sigmas("simple", levels, steps).tolist()
    return told


def packed(noise: Tensor) -> Tensor:
    """Latents (B, 16, h, w) as Flux' pipelines take them."""
    batch, channels, height, width = noise.shape
    tokens: Tensor = FluxPipeline._pack_latents(noise, batch, channels, height, width)
    return tokens


def made(pipeline: Any, **asked: Any) -> tuple[Tensor, Tensor]:
    """The latent in the VAE's units, and the pictures (B, H, W, 3), of one call each."""
    quiet(pipeline)
    given = {"num_inference_steps": len(pipeline.scheduler.told) - 1, "width": WIDTH, "height": HEIGHT, **asked}
    again = deepcopy(given)  # Z-Image's changes the list of prompts
    latent = pipeline(**given, output_type="latent").images
    pictures = pipeline(**again, output_type="pt").images
    if latent.ndim == 3:
        latent = pipeline._unpack_latents(latent, HEIGHT, WIDTH, 8)
    config = pipeline.vae.config
    return latent / config.scaling_factor + config.shift_factor, as_pictures(pictures)
