"""Models in the layout of diffusers: a folder with a folder for each part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from limner.errors import ModelFileError
from limner.models.checkpoint import Header
from limner.models.family import DENOISER, VAES, detect
from limner.models.text.load import CHECKPOINTS
from limner.models.weights import Weights, joined, open_weights

DENOISERS = ("unet", "transformer")
TEXTS = ("text_encoder", "text_encoder_2", "text_encoder_3")


def read_folder(folder: Path) -> Weights:
    """All parts of a folder as if they were one checkpoint. Raises ModelFileError where one is missing or unknown."""
    denoiser = next((folder / name for name in DENOISERS if (folder / name).is_dir()), None)
    if denoiser is None:
        raise ModelFileError(f"{folder.name} cannot be used: it has no folder unet or transformer", file=str(folder))
    own = _part(denoiser)
    parts: dict[str | int, Weights] = {DENOISER: own}
    if (folder / "vae").is_dir():
        parts[VAES[0]] = _part(folder / "vae")
    prefixes = [prefix for _, prefix in CHECKPOINTS[detect(own).family.text][1]]
    texts = [folder / name for name in TEXTS if (folder / name).is_dir()]
    if len(texts) > len(prefixes):  # the refiner's folder has an empty first place
        texts = texts[-len(prefixes) :]
    parts |= {prefix: _part(text) for prefix, text in zip(prefixes, texts, strict=False)}
    header = replace(own.header, path=folder, metadata=_metadata(folder, own.header))
    return joined(parts, header)


def _part(folder: Path) -> Weights:
    """The weights in a folder: in one file, or in several; of several precisions the fullest is taken."""
    files = sorted(folder.glob("*.safetensors"))
    plain = [file for file in files if "." not in file.stem] or files
    if not plain:
        raise ModelFileError(f"{folder} cannot be used: it holds no safetensors file", file=str(folder))
    split = [file for file in plain if "-of-" in file.stem]
    chosen = split or plain[:1]
    weights = [open_weights(file) for file in chosen]
    return weights[0] if len(weights) == 1 else joined(dict(enumerate(weights)), weights[0].header)


def _metadata(folder: Path, header: Header) -> Mapping[str, str]:
    """The denoiser's, with what the folder says its network predicts."""
    told = _json(folder / "scheduler" / "scheduler_config.json").get("prediction_type")
    return {**header.metadata, **({"modelspec.prediction_type": str(told)} if told else {})}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be used: it is not JSON ({error})", file=str(path)) from error
    return content if isinstance(content, dict) else {}
