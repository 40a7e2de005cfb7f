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
from limner.graph.merging import merged
from limner.graph.sharing import shared, unshared
from limner.graph.spec import InputSpec, NodeSpec

ChoicesOf = Callable[[InputSpec], Sequence[str] | None]

VERSION = 1
SHIPPED = "core_catalogue.json"


@dataclass(frozen=True)
class Catalogue:
    """Node specs by class name, and file names by model folder (`checkpoints`, `loras`, ...).

    `web`: what packs of custom nodes bring for the browser, content in base 64 by path below /extensions. `packs`:
    what became of each pack (`name`, number of `nodes`, `fault`, nodes `left_out` with the reason). `routes`: their
    HTTP routes, where these are answered (`method`, or `*`, and `path` with names in braces for what varies).
    """

    nodes: Mapping[str, NodeSpec]
    models: Mapping[str, Sequence[str]] = field(default_factory=dict)
    web: Mapping[str, str] = field(default_factory=dict)
    packs: Sequence[Mapping[str, Any]] = ()
    routes: Sequence[Mapping[str, str]] = ()

    @cached_property
    def digest(self) -> str:
        """Sha256 of the content: equal catalogues have equal digests on every machine."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def filled(self) -> Mapping[str, NodeSpec]:
        """The specs with the model files in their combo boxes. Equal boxes share one list of names."""
        offered = cache(lambda folder, first, last: [*first, *self.models.get(folder, ()), *last])
        return {
            name: _with_choices(spec, lambda each: offered(each.folder, each.first, each.last) if each.folder else None)
            for name, spec in self.nodes.items()
        }

    def object_info(self, input_files: Sequence[str] = ()) -> dict[str, Any]:
        """The answer of /object_info for a tenant who has these input files. It is shared: copy before changing it."""
        return {name: self.node_info(name, input_files) for name in self.nodes}

    def node_info(self, name: str, input_files: Sequence[str] = ()) -> dict[str, Any]:
        """One class's entry of /object_info. KeyError where the class does not exist."""
        if not self.offers_input_files(name):
            return self._info[name]

        def offered(each: InputSpec) -> Sequence[str] | None:
            if each.upload is None or not each.is_box or "remote" in each.options:  # the browser asks for those itself
                return None
            return [*each.first, *offered_files(each.upload, input_files)]

        return _with_choices(self.filled[name], offered).object_info()

    def offers_input_files(self, name: str) -> bool:
        """Whether what `node_info` shows of a class depends on the tenant's files."""
        return any(each.upload for each in self.nodes[name].inputs)

    def to_json(self) -> dict[str, Any]:
        """What a worker hands in and a database keeps."""
        nodes, lists = shared({name: spec.to_json() for name, spec in self.nodes.items()})
        models = {folder: list(names) for folder, names in self.models.items()}
        more = {"lists": lists, "web": dict(self.web), "packs": list(self.packs), "routes": list(self.routes)}
        return {
            "v": VERSION,
            "nodes": nodes,
            "models": models,
            **{name: value for name, value in more.items() if value},
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Catalogue:
        nodes = unshared(raw["nodes"], raw.get("lists", {}))
        return cls(
            nodes={name: NodeSpec.from_json(info) for name, info in nodes.items()},
            models={folder: tuple(names) for folder, names in raw.get("models", {}).items()},
            web=dict(raw.get("web", {})),
            packs=tuple(raw.get("packs", ())),
            routes=tuple(raw.get("routes", ())),
        )

    @classmethod
    def merged(cls, catalogues: Sequence[Catalogue]) -> Catalogue:
        """What a pool of different workers offers: all nodes, all model files, and all choices that any of them has.

        Where workers have a class in different forms, what one of them would take is taken (`limner.graph.merging`).
        """
        if len({each.digest for each in catalogues}) == 1:
            return catalogues[0]
        in_order = sorted(catalogues, key=lambda each: each.digest)  # the same whoever offered first
        names = sorted({name for each in in_order for name in each.nodes})
        folders = sorted({folder for each in in_order for folder in each.models})
        return cls(
            nodes={name: merged([each.nodes[name] for each in in_order if name in each.nodes]) for name in names},
            models={
                folder: tuple(sorted({name for each in in_order for name in each.models.get(folder, ())}))
                for folder in folders
            },
            web={path: content for each in reversed(in_order) for path, content in each.web.items()},
            packs=tuple(pack for each in in_order for pack in each.packs),
            routes=tuple(route for each in in_order for route in each.routes),
        )

    @staticmethod
    def core() -> Catalogue:
        """Limner's own nodes and its built-in model, from the wheel: there before any worker ever ran."""
        return _core()

    @cached_property
    def _info(self) -> dict[str, dict[str, Any]]:
        return {name: spec.object_info() for name, spec in self.filled.items()}


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
