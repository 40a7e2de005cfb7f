"""What nodes exist and which model files there are: plain data, so that checking a workflow needs no node's code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib import resources
from typing import Any

from limner.graph.literals import offered_files
from limner.graph.spec import InputSpec, NodeSpec

ChoicesOf = Callable[[InputSpec], Sequence[str] | None]

VERSION = 1
SHIPPED = "core_catalogue.json"


@dataclass(frozen=True)
class Catalogue:
    """Node specs by class name, and file names by model folder (`checkpoints`, `loras`, ...)."""

    nodes: Mapping[str, NodeSpec]
    models: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Sha256 of the content: equal catalogues have equal digests on every machine."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def filled(self) -> Mapping[str, NodeSpec]:
        """The specs with the model files in their combo boxes."""
        return {name: self._with_models(spec) for name, spec in self.nodes.items()}

    def object_info(self, input_files: Sequence[str] = ()) -> dict[str, Any]:
        """The answer of /object_info for a tenant who has these input files. It is shared: copy before changing it."""
        return {name: self.node_info(name, input_files) for name in self.nodes}

    def node_info(self, name: str, input_files: Sequence[str] = ()) -> dict[str, Any]:
        """One class's entry of /object_info. KeyError where the class does not exist."""
        if not any(each.upload for each in self.filled[name].inputs):
            return self._info[name]
        spec = _with_choices(
            self.filled[name], lambda each: offered_files(each.upload, input_files) if each.upload else None
        )
        return spec.object_info()

    def to_json(self) -> dict[str, Any]:
        """What a worker hands in and a database keeps."""
        return {
            "v": VERSION,
            "nodes": {name: spec.to_json() for name, spec in self.nodes.items()},
            "models": {folder: list(names) for folder, names in self.models.items()},
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Catalogue:
        return cls(
            nodes={name: NodeSpec.from_json(info) for name, info in raw["nodes"].items()},
            models={folder: tuple(names) for folder, names in raw.get("models", {}).items()},
        )

    @staticmethod
    def core() -> Catalogue:
        """Limner's own nodes and its built-in model, from the wheel: there before any worker ever ran."""
        return _core()

    @cached_property
    def _info(self) -> dict[str, dict[str, Any]]:
        return {name: spec.object_info() for name, spec in self.filled.items()}

    def _with_models(self, spec: NodeSpec) -> NodeSpec:
        return _with_choices(spec, lambda each: self.models.get(each.folder, ()) if each.folder else None)


@cache
def _core() -> Catalogue:
    shipped = resources.files("limner.graph").joinpath(SHIPPED)
    return Catalogue.from_json(json.loads(shipped.read_text(encoding="utf-8")))


def _with_choices(spec: NodeSpec, choices: ChoicesOf) -> NodeSpec:
    filled = []
    for each in spec.inputs:
        offered = choices(each)
        filled.append(each if offered is None else each.with_choices(offered))
    return replace(spec, inputs=tuple(filled))
