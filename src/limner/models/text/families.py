"""TextFamily: which encoders a family of image models reads its prompts with, and how their states are joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad

from limner.models.text.encoder import Choice, TextEncoder
from limner.models.text.qwen import TEMPLATE
from limner.models.text.sections import Cutter
from limner.models.text.tokenizer import END

SD3_WIDTH = 4096
"""Of Stable Diffusion 3's context where no T5 is there to tell."""

SD3_POOLED = {"l": 768, "g": 1280}
"""Widths of the pooled vectors in whose place zeros stand where an encoder is absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What one encoder made of a prompt: states (1, tokens, width), and a pooled vector (1, P) if it has one."""

    states: Tensor
    pooled: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One encoder in a family.

    name: of its tokens (`l`). encoder: of the network (`clip_l`). choice: which states are taken. pad: the token that
    fills sections. least: places that a prompt is padded to. template: what the prompt stands in, as `{}`.
    """

    name: str
    encoder: str
    choice: Choice = field(default_factory=Choice)
    pad: int = END
    least: int = 0
    template: str | None = None

    def cutter(self, encoder: TextEncoder) -> Cutter:
        """How prompts are cut for this encoder in this family."""
        return Cutter(
            ids=encoder.ids,
            encoder=encoder.name,
            width=encoder.width,
            pad=self.pad,
            start=encoder.start,
            end=encoder.end,
            length=encoder.length,
            least=self.least,
            template=self.template,
        )


Join = Callable[[Mapping[str, Encoded], Mapping[str, int]], tuple[Tensor, Tensor | None]]
"""Encodings by part, and the widths of the loaded parts, into the context (1, tokens, width) and the pooled vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFamily:
    """The text side of a family. partial: it does with any of its encoders, and one without tokens is left out."""

    title: str
    parts: tuple[Part, ...]
    join: Join
    partial: bool = False


def _only(parts: Mapping[str, Encoded], widths: Mapping[str, int]) -> tuple[Tensor, Tensor | None]:  # noqa: ARG001
    (encoded,) = parts.values()
    return encoded.states, encoded.pooled


def _side_by_side(parts: Mapping[str, Encoded], widths: Mapping[str, int]) -> tuple[Tensor, Tensor | None]:  # noqa: ARG001
    """L beside G along the width, cut to the shorter; the pooled vector is G's."""
    return _beside(parts["l"].states, parts["g"].states), parts["g"].pooled


def _stacked(parts: Mapping[str, Encoded], widths: Mapping[str, int]) -> tuple[Tensor, Tensor | None]:
    """L beside G, filled with zeros to T5's width, then T5's tokens; the pooled vectors one behind the other."""
    width = widths.get("t5xxl", SD3_WIDTH)
    left = widths.get("l", SD3_POOLED["l"])
    rows = []
    if "l" in parts and "g" in parts:
        rows.append(_filled(_beside(parts["l"].states, parts["g"].states), 0, width))
    elif "l" in parts or "g" in parts:
        rows.append(_filled(parts["l"].states, 0, width) if "l" in parts else _filled(parts["g"].states, left, width))
    if "t5xxl" in parts:
        rows.append(parts["t5xxl"].states)
    context = torch.cat(rows, dim=1) if rows else torch.zeros(1, 77, width)
    vectors = [
        parts[name].pooled if name in parts else torch.zeros(1, widths.get(name, size))
        for name, size in SD3_POOLED.items()
    ]
    return context, torch.cat([each for each in vectors if each is not None], dim=1)


def _t5_with_vector(parts: Mapping[str, Encoded], widths: Mapping[str, int]) -> tuple[Tensor, Tensor | None]:  # noqa: ARG001
    """T5's tokens; the pooled vector is L's."""
    return parts["t5xxl"].states, parts["l"].pooled


def _beside(left: Tensor, right: Tensor) -> Tensor:
    shorter = min(left.shape[1], right.shape[1])
    return torch.cat([left[:, :shorter], right[:, :shorter]], dim=2)


def _filled(states: Tensor, before: int, width: int) -> Tensor:
    return pad(states, (before, width - before - states.shape[2]))


HIDDEN = Choice(layer=-2, normed=False)
"""The layer before the last as it is, the pooled vector through the projection."""

SD15 = TextFamily(title="Stable Diffusion 1.x", parts=(Part(name="l", encoder="clip_l"),), join=_only)

SD2 = TextFamily(
    title="Stable Diffusion 2.x",
    parts=(Part(name="h", encoder="clip_h", choice=Choice(layer=-2), pad=0),),
    join=_only,
)

SDXL = TextFamily(
    title="Stable Diffusion XL",
    parts=(
        Part(name="l", encoder="clip_l", choice=HIDDEN),
        Part(name="g", encoder="clip_g", choice=HIDDEN, pad=0),
    ),
    join=_side_by_side,
)

REFINER = TextFamily(
    title="the refiner of Stable Diffusion XL",
    parts=(Part(name="g", encoder="clip_g", choice=HIDDEN, pad=0),),
    join=_only,
)

SD3 = TextFamily(
    title="Stable Diffusion 3",
    parts=(
        Part(name="l", encoder="clip_l", choice=Choice(layer=-2, normed=False, projected=False)),
        Part(name="g", encoder="clip_g", choice=HIDDEN, pad=0),
        Part(name="t5xxl", encoder="t5xxl", pad=0, least=77),
    ),
    join=_stacked,
    partial=True,
)

FLUX = TextFamily(
    title="Flux.1",
    parts=(
        Part(name="l", encoder="clip_l", choice=Choice(projected=False)),
        Part(name="t5xxl", encoder="t5xxl", pad=0, least=256),
    ),
    join=_t5_with_vector,
)

Z_IMAGE = TextFamily(
    title="Z-Image",
    parts=(Part(name="qwen3_4b", encoder="qwen3_4b", choice=HIDDEN, pad=151643, template=TEMPLATE),),
    join=_only,
)
