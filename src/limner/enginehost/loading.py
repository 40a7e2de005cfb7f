"""Loads what takes long: torch, the nodes and the model library. Only an engine process imports this."""

from __future__ import annotations

import torch

from limner.engine.cache import OutputCache
from limner.engine.executor import Executor
from limner.enginehost.describe import Describer
from limner.enginehost.devices import describe_devices
from limner.enginehost.host import Loaded
from limner.models.device import settle_threads
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.nodes import library as nodes


def load(folders: ModelFolders, describer: Describer) -> Loaded:
    """Limner's nodes and models over these folders."""
    settle_threads()
    models = ModelLibrary(folders)
    library = nodes.load()
    cache = OutputCache()
    describer.nodes_loaded(nodes.catalogue(library, folders), describe_devices(models.devices.device))
    return Loaded(
        executor=Executor(library, cache),
        cache=cache,
        models=models,
        services={ModelLibrary: models},
        preload=models.preload,
        computing=torch.inference_mode,
    )
