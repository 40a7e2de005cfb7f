"""The custom nodes of an engine process: loads packs, and tells what they add to Limner's own nodes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner import logs
from limner.compat import install as stand_ins
from limner.compat import packs
from limner.compat.pack import Found, Pack
from limner.compat.place import Place
from limner.compat.routes import Routes
from limner.compat.web import gathered
from limner.engine.context import RunContext
from limner.graph.folders import Folders
from limner.graph.kinds import NodeType
from limner.models.files import ModelFolders

log = logs.get("limner.packs")


@dataclass(slots=True, kw_only=True)
class Custom:
    """Packs on their way: found and prestarted at first, then loaded once Limner's own nodes are there."""

    place: Place
    found: Sequence[Found]
    early_faults: Mapping[str, str] = field(default_factory=dict)
    with_routes: bool = False
    packs: list[Pack] = field(default_factory=list)
    web: dict[str, str] = field(default_factory=dict)
    routes: Routes | None = None

    @classmethod
    def begin(cls, folders: Sequence[Path], *, work: Path, models: ModelFolders, with_routes: bool = False) -> Custom:
        """Finds packs, also where extra_model_paths.yaml says, and runs what they want to have run before torch.

        with_routes: their HTTP routes are to be answered.
        """
        place = Place(folder=work.absolute(), models=models)
        stand_ins.install(place)
        found = packs.find([*folders, *models.pack_folders])
        return cls(place=place, found=found, early_faults=packs.prestart(found), with_routes=with_routes)

    def load(self, own: Mapping[str, NodeType], services: Mapping[type, Any]) -> dict[str, NodeType]:
        """Every pack's nodes, by class name. Faults are logged and kept with their packs."""
        self.place.kinds, self.place.services = own, services
        stand_ins.complete()
        self.packs = packs.load(self.found, core=own.keys(), folders=Folders(self.place.models.lists()))
        for pack in self.packs:
            pack.fault = pack.fault or self.early_faults.get(pack.name, "")
            _tell(pack)
        folders = {name: path for pack in self.packs for name, path in pack.web.items()}
        told = {str(name): Path(path) for name, path in sys.modules["nodes"].EXTENSION_WEB_DIRS.items()}
        self.web, too_large = gathered({**folders, **{name: path for name, path in told.items() if path.is_dir()}})
        if too_large:
            log.warning("files of packs for the browser are too large to be served", files=too_large[:20])
        if self.with_routes:
            self.routes = Routes(sys.modules["server"].PromptServer.instance)
        return {name: kind for pack in self.packs for name, kind in pack.kinds.items()}

    @contextmanager
    def beside(self, ctx: RunContext, request: Any, stop: Any) -> Iterator[None]:
        """Around each run: its files lie where packs look for them, and it is known whose run it is."""
        client = request.extra_data.get("client_id")
        self.place.begin(ctx, request.inputs, client if isinstance(client, str) else None, stop)
        try:
            yield
        finally:
            self.place.end()
            sys.stdout.flush()


def _tell(pack: Pack) -> None:
    if pack.fault:
        log.error("a pack of custom nodes is not there", pack=pack.name, fault=pack.fault)
    else:
        log.info(
            "a pack of custom nodes is loaded", pack=pack.name, nodes=len(pack.kinds), seconds=round(pack.seconds, 1)
        )
    for name, reason in pack.left_out.items():
        log.warning("a custom node is left out", pack=pack.name, node=name, reason=reason)
