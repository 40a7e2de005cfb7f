"""What this engine is: its catalogue, its model files and devices, as the gateways show them."""

from __future__ import annotations

import dataclasses
import sys
from importlib import metadata
from typing import Any

from limner.enginehost.protocol import EngineInfo
from limner.graph.catalogue import Catalogue
from limner.models.files import ModelFolders


class Describer:
    """Until `nodes_loaded`, the shipped catalogue tells what the nodes are: it needs no torch.

    `partial`: there will be nodes beside those. Nothing is told before they are loaded, lest it be taken for all.
    """

    def __init__(self, folders: ModelFolders, *, partial: bool = False) -> None:
        self._folders = folders
        self._partial = partial
        self._lists: dict[str, list[str]] | None = None
        self._catalogue = Catalogue.core()
        self._loaded = self._catalogue
        self._data: dict[str, Any] = {}
        self._devices: list[dict[str, Any]] = []

    def nodes_loaded(self, catalogue: Catalogue, devices: list[dict[str, Any]]) -> None:
        self._loaded = catalogue
        self._partial = False
        self._lists = None
        self._devices = devices

    def __call__(self, ready: bool) -> EngineInfo:
        """The info as of now. Model folders are read again each time; the rest is made anew only when it changed."""
        if self._partial:
            return EngineInfo(python_version=sys.version, pytorch_version=_version_of("torch"))
        lists = self._folders.lists()
        if lists != self._lists:
            self._lists = lists
            self._catalogue = dataclasses.replace(self._loaded, models=lists)
            self._data = self._catalogue.to_json()
        return EngineInfo(
            catalogue=self._data,
            digest=self._catalogue.digest,
            devices=self._devices,
            python_version=sys.version,
            pytorch_version=_version_of("torch"),
            ready=ready,
        )


def _version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
