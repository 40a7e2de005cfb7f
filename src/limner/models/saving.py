"""Models back into files, in the layouts that they came in and that others read."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.diffusion.denoiser import Edm, Epsilon, Prediction, Velocity
from limner.diffusion.levels import LogLevels
from limner.errors import DiskFull, UnfitInput
from limner.models.augmentation import NoiseAugmentation
from limner.models.clip import Clip
from limner.models.model import Model
from limner.models.patcher import Patcher
from limner.models.patches import patched
from limner.models.text.clip_text import ClipEncoder
from limner.models.text.layouts import to_open_clip
from limner.models.text.load import CHECKPOINTS, TOKEN_IDS
from limner.models.vae import Vae

NO_SIGNAL = 1000.0
"""A highest level above this leaves nothing of the picture: such a network was trained for zero signal there."""

ARCHITECTURES = {
    "sdxl": "stable-diffusion-xl-v1-base",
    "sdxl_refiner": "stable-diffusion-xl-v1-refiner",
    "sd3": "stable-diffusion-v3-medium",
}
"""Families that get a `modelspec` head, by what it calls them."""

CONFIG = "limner.config"


def weights_of(user: Patcher) -> dict[str, Tensor]:
    """Every weight by its original key, with the user's patches, in the precision it was loaded in, on the CPU."""
    found = {}
    for key in user.keys:
        home = user.weight(key)
        patches = user.patches.get(key)
        if patches:
            with torch.inference_mode():
                home = patched(home.to(user.load_device).float(), patches).to(home.dtype).cpu()
        found[key] = home
    return found


def model_weights(model: Model) -> dict[str, Tensor]:
    """The denoiser under the keys of a checkpoint, and marks for what it predicts."""
    weights = {f"model.{key}": weight for key, weight in weights_of(model).items()}
    return weights | prediction_marks(model.model_sampling, model) | augmentation_marks(model)


def vae_weights(vae: Vae) -> dict[str, Tensor]:
    """A VAE under the bare keys of its original layout."""
    return weights_of(vae.patcher)


def checkpoint_weights(model: Model, clip: Clip, vae: Vae) -> dict[str, Tensor]:
    """All three as one checkpoint of the model's family. Raises UnfitInput for text encoders of another family."""
    kind = getattr(model.model.architecture, "text", "")
    if kind not in CHECKPOINTS:
        raise UnfitInput(
            f"{model.name} cannot be saved as one checkpoint: files of {model.model.architecture.title} hold one part "
            "each; use ModelSave, CLIPSave and VAESave"
        )
    weights = model_weights(model) | {f"first_stage_model.{key}": each for key, each in vae_weights(vae).items()}
    family, places = CHECKPOINTS[kind]
    if family is not clip.family:
        raise UnfitInput(
            f"{model.name} cannot be saved with these text encoders: they are those of {clip.family.title}; use the "
            "ones that belong to the model"
        )
    whole = weights_of(clip)
    for name, prefix in places:
        start = f"{name}.transformer."
        own = {key.removeprefix(start): weight for key, weight in whole.items() if key.startswith(start)}
        if prefix.endswith("model."):
            own = to_open_clip({key.removeprefix("text_model."): weight for key, weight in own.items()})
        weights |= {prefix + key: weight for key, weight in own.items()}
    return weights | vocabulary(clip)


def encoder_weights(clip: Clip) -> dict[str, dict[str, Tensor]]:
    """For each text encoder its weights as a file of its own holds them.

    Raises UnfitInput for one with a small vocabulary, which such a file cannot tell.
    """
    if vocabulary(clip):
        raise UnfitInput("these text encoders know few words, which only a checkpoint can tell; use CheckpointSave")
    files: dict[str, dict[str, Tensor]] = {}
    for key, weight in weights_of(clip).items():
        name, _, rest = key.partition(".")
        files.setdefault(name, {})[rest.removeprefix("transformer.")] = weight
    return files


def vocabulary(clip: Clip) -> dict[str, Tensor]:
    """The tokens of a small vocabulary, where the text encoder has one."""
    encoder = clip.cond_stage_model.encoder("clip_l")
    rows = encoder.rows if isinstance(encoder, ClipEncoder) else None
    if rows is None:
        return {}
    return {TOKEN_IDS: torch.tensor(sorted(rows, key=lambda token: rows[token]), dtype=torch.int32)}


def prediction_marks(sampling: Prediction, model: Model) -> dict[str, Tensor]:
    """Tensors by which loaders know what a network predicts; an empty one says all by its name."""
    levels = sampling.levels
    if isinstance(sampling, Edm):
        latents = model.latent_format
        return {"edm_mean": torch.tensor(latents.mean), "edm_std": torch.tensor(latents.std)}
    if not isinstance(sampling, Velocity):
        return {}
    if isinstance(levels, LogLevels):
        return {"edm_vpred.sigma_max": torch.tensor(levels.high), "edm_vpred.sigma_min": torch.tensor(levels.low)}
    marks = {"v_pred": torch.zeros(0)}
    return marks | ({"ztsnr": torch.zeros(0)} if levels.high > NO_SIGNAL else {})


def augmentation_marks(model: Model) -> dict[str, Tensor]:
    """For unCLIP models: the mean and the spread of pictures' encodings."""
    told = model.model.facts.get("augmentation")
    if not isinstance(told, NoiseAugmentation) or told.mean is None or told.std is None:
        return {}
    return {"noise_augmentor.data_mean": told.mean, "noise_augmentor.data_std": told.std}


def metadata(
    title: str, *, prompt: Any, extra_pnginfo: Mapping[str, Any] | None, model: Model | None = None, **told: Any
) -> dict[str, str]:
    """The texts in a file's head: the workflow that made it, what it is, and facts that shapes do not tell.

    told: of the parts that are saved, what the files they came from said (`limner.config`).
    """
    texts: dict[str, str] = {}
    if model is not None:
        architecture = ARCHITECTURES.get(model.model.architecture.name)
        if architecture:
            texts |= {
                "modelspec.sai_model_spec": "1.0.0",
                "modelspec.architecture": architecture,
                "modelspec.implementation": "sgm",
                "modelspec.title": title,
            }
        if isinstance(model.model_sampling, Velocity | Epsilon):
            kind = "v" if isinstance(model.model_sampling, Velocity) else "epsilon"
            texts |= {"modelspec.predict_key": kind, "modelspec.prediction_type": kind}
    if prompt is not None:
        texts["prompt"] = json.dumps(prompt)
    texts |= {key: json.dumps(value) for key, value in (extra_pnginfo or {}).items()}
    facts = {name: value for name, value in told.items() if value is not None}
    return texts | ({CONFIG: json.dumps(facts)} if facts else {})


def facts_of(model: Model | None = None, clip: Clip | None = None, vae: Vae | None = None) -> dict[str, Any]:
    """What the heads of their files said of these parts, for `metadata`; each part speaks for itself."""
    facts: dict[str, Any] = {}
    if model is not None:
        facts |= {key: value for key, value in model.model.told.items() if key not in ("vae", "text", "clip_g")}
    if clip is not None:
        facts |= {key: value for key, value in clip.told.items() if key.startswith(("text", "clip_", "t5"))}
    if vae is not None and "vae" in vae.told:
        facts["vae"] = vae.told["vae"]
    return facts


def write(path: Path, weights: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """A safetensors file of these weights. Raises DiskFull where there is no room for it."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({key: _own(weight) for key, weight in weights.items()}, path, dict(texts))
    except (SafetensorError, OSError) as error:
        path.unlink(missing_ok=True)
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise DiskFull(f"there is no room for {path.name} ({error})") from error
        raise


def _own(weight: Tensor) -> Tensor:
    """The weight in memory that it shares with no other, as the file format wants it."""
    if weight.is_contiguous() and weight.untyped_storage().nbytes() == weight.nbytes:
        return weight.detach()
    return weight.detach().contiguous().clone()
