"""What the real engine loads."""

from __future__ import annotations

import torch

from limner.engine.policy import CachePolicy
from limner.enginehost.describe import Describer
from limner.enginehost.loading import load
from limner.models.files import ModelFolders


def test_nodes_compute_without_gradients() -> None:
    folders = ModelFolders([])
    loaded = load(folders, Describer(folders), cache=CachePolicy())
    with loaded.computing():
        assert torch.is_inference_mode_enabled()
    assert not torch.is_inference_mode_enabled()
