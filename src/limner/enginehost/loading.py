"""Loads what takes long: torch, the nodes and the model library. Only an engine process imports this."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from limner.compat.custom import Custom
from limner.engine.cache import OutputCache
from limner.engine.executor import Executor
from limner.engine.policy import CachePolicy
from limner.enginehost.checking import Checker
from limner.enginehost.describe import Describer
from limner.enginehost.devices import describe_devices
from limner.enginehost.host import Loaded, nothing_beside
from limner.enginehost.undisturbed import undisturbed
from limner.models.device import settle_threads
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.nodes import library as nodes


def load(folders: ModelFolders, describer: Describer, custom: Custom | None = None, *, cache: CachePolicy) -> Loaded:
    """Limner's nodes and models over these folders, and the custom nodes of these packs."""
    settle_threads()
    models = ModelLibrary(folders)
    library = nodes.load()
    services: dict[type, Any] = {ModelLibrary: models}
    if custom is not None:
        library = library.with_others(custom.load(library, services))
    catalogue = nodes.catalogue(library, folders)
    if custom is not None:
        packs = tuple(pack.to_json() for pack in custom.packs)
        routes = () if custom.routes is None else tuple(custom.routes.declared)
        catalogue = replace(catalogue, web=custom.web, packs=packs, routes=routes)
    describer.nodes_loaded(catalogue, describe_devices(models.devices.device))
    executor = Executor(library, OutputCache(policy=cache), file_mark=folders.mark)
    return Loaded(
        executor=executor,
        models=models,
        services=services,
        preload=models.preload,
        computing=undisturbed,
        ask=Checker(library, executor.accepted).ask,
        serve=None if custom is None or custom.routes is None else custom.routes.serve,
        beside=nothing_beside if custom is None else custom.beside,
    )
