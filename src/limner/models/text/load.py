"""Text encoders from files: those of a checkpoint, and those that stand in files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limner.errors import UnfitInput
from limner.models.clip import Clip
from limner.models.device import Devices
from limner.models.text import families
from limner.models.text.clip_text import ClipEncoder, clip_text
from limner.models.text.embeddings import FindEmbedding
from limner.models.text.encoder import TextEncoder
from limner.models.text.families import TextFamily
from limner.models.text.kinds import CLIP_MARK, OPEN_CLIP_MARK, TITLES, kind_of
from limner.models.text.layouts import from_open_clip, from_transformers
from limner.models.text.qwen import BASE, qwen
from limner.models.text.t5 import t5, table_key
from limner.models.text.vocabularies import SPIECE, find_vocabulary
from limner.models.weights import Weights

CHECKPOINTS = {
    "sd15": (families.SD15, (("clip_l", "cond_stage_model.transformer."),)),
    "sd2": (families.SD2, (("clip_h", "cond_stage_model.model."),)),
    "sdxl": (
        families.SDXL,
        (("clip_l", "conditioner.embedders.0.transformer."), ("clip_g", "conditioner.embedders.1.model.")),
    ),
    "refiner": (families.REFINER, (("clip_g", "conditioner.embedders.0.model."),)),
    "sd3": (
        families.SD3,
        (
            ("clip_l", "text_encoders.clip_l.transformer."),
            ("clip_g", "text_encoders.clip_g.transformer."),
            ("t5xxl", "text_encoders.t5xxl.transformer."),
        ),
    ),
    "flux": (
        families.FLUX,
        (("clip_l", "text_encoders.clip_l.transformer."), ("t5xxl", "text_encoders.t5xxl.transformer.")),
    ),
    "z_image": (families.Z_IMAGE, (("qwen3_4b", "text_encoders.qwen3_4b.transformer."),)),
}
"""For each family the text encoders in its checkpoints, and the prefixes of their keys there."""

TOKEN_IDS = "cond_stage_model.token_ids"  # noqa: S105
"""In models with a small vocabulary: the CLIP token id of embedding row 1, 2, ...; row 0 is every other token."""

TYPES = {
    "stable_diffusion": (families.SD15, families.SD2, families.REFINER),
    "sdxl": (families.SDXL,),
    "sd3": (families.SD3,),
    "flux": (families.FLUX,),
    "lumina2": (families.Z_IMAGE,),
}
"""What the loaders' `type` stands for; by the encoders in the files one of these families is meant."""


def of_checkpoint(
    kind: str, weights: Weights, devices: Devices, embedding: FindEmbedding, tokenizers: Sequence[Path] = ()
) -> Clip:
    """The text encoders in a checkpoint of this kind. tokenizers: folders in which tokenizers may lie.

    Raises ModelFileError where one is missing or does not fit.
    """
    family, wanted = CHECKPOINTS[kind]
    found = [(name, weights.under(prefix)) for name, prefix in wanted if weights.header.has(prefix)]
    missing = [prefix for _, prefix in wanted if not weights.header.has(prefix)]
    if missing and (not family.partial or not found):
        raise weights.header.fault(
            f"it has no text encoder ({missing[0]}*); load one with CLIPLoader or DualCLIPLoader"
        )
    rows = None
    if TOKEN_IDS in weights:
        rows = {int(token): row for row, token in enumerate(weights.tensor(TOKEN_IDS).tolist(), start=1)}
    encoders = [encoder(name, part, tokenizers, rows=rows) for name, part in found]
    return _clip(family, encoders, devices, embedding, weights.header.told())


def of_files(
    files: Sequence[Weights], type_: str, devices: Devices, embedding: FindEmbedding, tokenizers: Sequence[Path] = ()
) -> Clip:
    """The text encoders in these files, in any order, for the model family that a loader's `type` names.

    Raises UnfitInput for a type that this version has no family for, ModelFileError for files that do not go with it.
    """
    if type_ not in TYPES:
        raise UnfitInput(
            f"text encoders of the type {type_!r} cannot be run by this version; it knows {', '.join(sorted(TYPES))}"
        )
    names = [kind_of(each.header) for each in files]
    family = next((family for family in TYPES[type_] if _goes_with(family, names)), None)
    if family is None:
        pairs = zip(files, names, strict=True)
        told = " and ".join(f"{each.header.path.name} is {TITLES[name]}" for each, name in pairs)
        takes = "; or ".join(_needs(family) for family in TYPES[type_])
        raise files[0].header.fault(f"{told}, and the type {type_!r} takes {takes}")
    encoders = [encoder(name, each, tokenizers) for each, name in zip(files, names, strict=True)]
    return _clip(family, encoders, devices, embedding, {})


def encoder(
    name: str, weights: Weights, tokenizers: Sequence[Path] = (), *, rows: dict[int, int] | None = None
) -> TextEncoder:
    """One encoder (`clip_l`, `t5xxl`, ...) from a file, or a part of one, of any layout that is in use for it.

    rows: of a small vocabulary, for CLIP. Raises ModelFileError where it does not fit or its tokenizer is missing.
    """
    header = weights.header
    if name.startswith("clip_"):
        return _clip_encoder(name, weights, rows)
    told = weights.tensor(SPIECE) if SPIECE in weights else None
    entries = header.size(table_key(header) if name == "t5xxl" else f"{BASE}embed_tokens.weight")
    vocabulary = find_vocabulary(header, kind=name, entries=entries, inside=told, places=tokenizers)
    return t5(header, weights.tensors(), ids=vocabulary) if name == "t5xxl" else qwen(weights, ids=vocabulary)


def _clip_encoder(name: str, weights: Weights, rows: dict[int, int] | None) -> ClipEncoder:
    header = weights.header
    if OPEN_CLIP_MARK in header:
        return clip_text(header, from_open_clip(header, weights.tensors()), name=name, rows=rows)
    if CLIP_MARK in header or f"text_model.{CLIP_MARK}" in header:
        return clip_text(header, from_transformers(weights.tensors()), name=name, rows=rows)
    raise header.fault(f"its text encoder ({header.part}*) is not complete or of an unknown layout")


def _goes_with(family: TextFamily, names: list[str]) -> bool:
    wanted = [part.encoder for part in family.parts]
    if len(set(names)) != len(names) or not set(names) <= set(wanted):
        return False
    return family.partial or len(names) == len(wanted)


def _needs(family: TextFamily) -> str:
    titles = [TITLES[part.encoder] for part in family.parts]
    joined = f"{', '.join(titles[:-1])} {'or' if family.partial else 'and'} {titles[-1]}" if titles[1:] else titles[0]
    return f"{joined} ({family.title})"


def _clip(
    family: TextFamily,
    encoders: list[TextEncoder],
    devices: Devices,
    embedding: FindEmbedding,
    told: dict[str, Any],
) -> Clip:
    parameters = sum(weight.numel() for each in encoders for weight in each.parameters())
    dtype = devices.text_dtype(parameters)
    return Clip(family, encoders, device=devices.device, dtype=dtype, embedding=embedding, told=told)
