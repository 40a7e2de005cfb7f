"""Configuration files of old checkpoints (`v2-inference-v.yaml` ...): what the checkpoint itself leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.diffusion.denoiser import Epsilon, Velocity
from limner.errors import ModelFileError
from limner.models.clip import Clip
from limner.models.model import Model

LAYERS = {"last": -1, "penultimate": -2}
KINDS = {"v": Velocity, "eps": Epsilon}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """parameterization: `eps` or `v`. layer: of the text encoder, from the end. None: the file does not say."""

    parameterization: str | None = None
    layer: int | None = None

    def of_model(self, model: Model) -> Model:
        """The model, predicting what is told here."""
        if self.parameterization is None:
            return model
        changed = model.clone()
        changed.add_object_patch("model_sampling", KINDS[self.parameterization](model.model_sampling.levels))
        return changed

    def of_clip(self, clip: Clip) -> Clip:
        """The text encoder, read at the layer that is told here."""
        if self.layer is None:
            return clip
        changed = clip.clone()
        changed.clip_layer(self.layer)
        return changed


def read_config(path: Path) -> Config:
    """What a file says. Raises ModelFileError where it cannot be read."""
    import yaml

    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelFileError(f"{path.name} cannot be used: it is not YAML ({' '.join(str(error).split())})") from error
    told = _within(content, "model", "params", "parameterization")
    text = _within(content, "model", "params", "cond_stage_config", "params")
    layer = (
        _within(text, "layer_idx") if _within(text, "layer") == "hidden" else LAYERS.get(str(_within(text, "layer")))
    )
    if told not in (None, *KINDS) or not isinstance(layer, int | None):
        raise ModelFileError(f"{path.name} cannot be used: it says parameterization {told!r} and layer {layer!r}")
    return Config(parameterization=told, layer=layer)


def _within(content: Any, *names: str) -> Any:
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    return content
