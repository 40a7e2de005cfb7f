"""The base of the classes in comfy.supported_models."""

from limner.compat.kinds import of_kind
from limner.models.known_base import ModelConfig

BASE = of_kind("BASE", ModelConfig, "comfy.supported_models_base")
