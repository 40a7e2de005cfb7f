"""Models from files and from tensors that packs have read themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from limner.compat.kinds import of_kind
from limner.compat.modules.comfy import model_detection as model_detection
from limner.compat.state import library, weights_of
from limner.engine.context import NoRun, current
from limner.errors import ModelFileError, UnfitInput
from limner.models import rounding
from limner.models.clip import Clip
from limner.models.clip_vision import load_clip_vision
from limner.models.configs import read_config
from limner.models.family import detect
from limner.models.files import TOKENIZERS
from limner.models.lora.apply import add_lora
from limner.models.lora.read import LoraFile, parsed
from limner.models.model import Model
from limner.models.style import StyleModel as _StyleModel
from limner.models.style import load_style_model as _load_style_model
from limner.models.text.embeddings import read_embedding
from limner.models.text.load import of_files
from limner.models.vae import Vae
from limner.models.vae_kinds import load_vae
from limner.models.weights import Weights, open_weights

Options = Mapping[str, Any]

CLIP = of_kind("CLIP", Clip, "comfy.sd")
StyleModel = of_kind("StyleModel", _StyleModel, "comfy.sd")


class CLIPType(Enum):
    """For which family text encoders are loaded: the choices of the loader nodes."""

    STABLE_DIFFUSION = 1
    STABLE_CASCADE = 2
    SD3 = 3
    STABLE_AUDIO = 4
    HUNYUAN_DIT = 5
    FLUX = 6
    MOCHI = 7
    LTXV = 8
    HUNYUAN_VIDEO = 9
    PIXART = 10
    COSMOS = 11
    LUMINA2 = 12
    WAN = 13
    HIDREAM = 14
    CHROMA = 15
    ACE = 16
    OMNIGEN2 = 17
    QWEN_IMAGE = 18
    HUNYUAN_IMAGE = 19


class _EveryVae(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Vae) if cls is VAE else super().__instancecheck__(instance)


class VAE(Vae, metaclass=_EveryVae):
    """A VAE of tensors by name. device, dtype: where and in which precision it runs, where not as usual."""

    def __init__(
        self,
        sd: Mapping[str, Any],
        device: Any = None,
        config: Any = None,
        dtype: torch.dtype | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        if config is not None:
            raise UnfitInput("Limner tells a VAE's layout from its tensors, not from a config")
        loaded = load_vae(weights_of(sd, metadata), library().devices)
        self.__dict__.update(loaded.__dict__)
        if device is not None:
            self.patcher.load_device = torch.device(device)
        if dtype is not None:
            self.patcher.dtype = dtype


def load_checkpoint_guess_config(
    ckpt_path: str,
    output_vae: bool = True,
    output_clip: bool = True,
    output_clipvision: bool = False,
    embedding_directory: Any = None,
    output_model: bool = True,
    model_options: Options | None = None,
    te_model_options: Options | None = None,
) -> tuple[Any, Any, Any, Any]:
    """(model, CLIP, VAE, CLIP vision) of a checkpoint, None where not asked for. Embeddings come from Limner's folders.

    Raises ModelFileError, UnfitInput for options that cannot be kept.
    """
    _checked(model_options)
    _checked(te_model_options)
    path = Path(ckpt_path)
    model, clip, vae = library().checkpoint_at(path)
    vision = load_clip_vision(open_weights(path), library().devices) if output_clipvision else None
    return model if output_model else None, clip if output_clip else None, vae if output_vae else None, vision


def load_checkpoint(
    config_path: str | None = None,
    ckpt_path: str | None = None,
    output_vae: bool = True,
    output_clip: bool = True,
    embedding_directory: Any = None,
    state_dict: Mapping[str, Any] | None = None,
    config: Any = None,
) -> tuple[Any, Any, Any]:
    """(model, CLIP, VAE) of a checkpoint under what a configuration file says of it, where one is named."""
    if config is not None:
        raise UnfitInput("Limner reads a configuration from its file (config_path), not as an object")
    if state_dict is not None:
        model, clip, vae = library().load_checkpoint(weights_of(state_dict))
    elif ckpt_path is not None:
        model, clip, vae = library().checkpoint_at(Path(ckpt_path))
    else:
        raise UnfitInput("load_checkpoint was given neither ckpt_path nor state_dict")
    if config_path is not None:
        told = read_config(Path(config_path))
        model, clip = told.of_model(model), told.of_clip(clip)
    return model, clip if output_clip else None, vae if output_vae else None


def load_state_dict_guess_config(
    sd: Mapping[str, Any],
    output_vae: bool = True,
    output_clip: bool = True,
    output_clipvision: bool = False,
    embedding_directory: Any = None,
    output_model: bool = True,
    model_options: Options | None = None,
    te_model_options: Options | None = None,
    metadata: Mapping[str, str] | None = None,
) -> tuple[Any, Any, Any, Any]:
    _checked(model_options)
    _checked(te_model_options)
    weights = weights_of(sd, metadata)
    model, clip, vae = library().load_checkpoint(weights)
    vision = load_clip_vision(weights, library().devices) if output_clipvision else None
    return model if output_model else None, clip if output_clip else None, vae if output_vae else None, vision


def load_diffusion_model(unet_path: str, model_options: Options | None = None) -> Model:
    """A denoiser in a file of its own. model_options: `dtype`, an 8-bit type that weights are rounded to."""
    return _denoiser(open_weights(Path(unet_path)), model_options)


def load_diffusion_model_state_dict(
    sd: Mapping[str, Any], model_options: Options | None = None, metadata: Mapping[str, str] | None = None
) -> Model:
    return _denoiser(weights_of(sd, metadata), model_options)


def load_unet(unet_path: str, dtype: torch.dtype | None = None) -> Model:
    return load_diffusion_model(unet_path, {} if dtype is None else {"dtype": dtype})


def load_unet_state_dict(sd: Mapping[str, Any], dtype: torch.dtype | None = None) -> Model:
    return load_diffusion_model_state_dict(sd, {} if dtype is None else {"dtype": dtype})


def load_clip(
    ckpt_paths: Sequence[str],
    embedding_directory: Any = None,
    clip_type: CLIPType = CLIPType.STABLE_DIFFUSION,
    model_options: Options | None = None,
) -> Clip:
    """The text encoders in these files."""
    return _encoders([open_weights(Path(path)) for path in ckpt_paths], clip_type, model_options)


def load_text_encoder_state_dicts(
    state_dicts: Sequence[Mapping[str, Any]] = (),
    embedding_directory: Any = None,
    clip_type: CLIPType = CLIPType.STABLE_DIFFUSION,
    model_options: Options | None = None,
) -> Clip:
    return _encoders([weights_of(each) for each in state_dicts], clip_type, model_options)


def load_style_model(ckpt_path: str) -> _StyleModel:
    return _load_style_model(Path(ckpt_path), library().devices)


def load_lora_for_models(
    model: Model | None, clip: Clip | None, lora: Mapping[str, Any], strength_model: float, strength_clip: float
) -> tuple[Model | None, Clip | None]:
    """Clones of both with a LoRA, told as tensors by name. What fits neither is told as a warning."""
    changed = None if model is None else model.clone()
    encoders = None if clip is None else clip.clone()
    read: LoraFile = parsed(weights_of(lora, name="a LoRA"))
    add_lora(
        read,
        changed,
        encoders,
        model_name="the text encoders" if changed is None else changed.name,
        strength_model=strength_model,
        strength_clip=strength_clip,
        warn=_warn(),
    )
    return changed, encoders


def _warn() -> Callable[[str], None]:
    try:
        return current().warn
    except NoRun:
        return lambda text: None


def _denoiser(file: Weights, options: Options | None) -> Model:
    dtype = _checked(options, "dtype").get("dtype")
    choice = next((name for name, each in rounding.EIGHT_BITS.items() if each is dtype), "default")
    found = detect(file)
    return found.family.load_model(rounding.rounded(found.denoiser, choice), file, library().devices)


def _encoders(files: Sequence[Weights], kind: CLIPType, options: Options | None) -> Clip:
    _checked(options, "load_device", "offload_device", "initial_device", "dtype")
    if not files:
        raise ModelFileError("text encoders cannot be loaded of no file")
    models = library()
    pair = len(files) == 2 and kind is CLIPType.STABLE_DIFFUSION
    return of_files(
        files,
        "sdxl" if pair else kind.name.lower(),
        models.devices,
        lambda name: read_embedding(models.folders, name),
        models.folders.places(TOKENIZERS),
    )


def _checked(options: Options | None, *known: str) -> Options:
    """Raises UnfitInput for options that change how a network computes: Limner's networks are its own."""
    told = options or {}
    unknown = next((name for name in told if name not in (*known, "initial_device", "load_device", "dtype")), None)
    if unknown is not None:
        raise UnfitInput(f"Limner loads models without the option {unknown!r}")
    return told
