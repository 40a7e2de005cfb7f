"""The packs of tests/data/packs, loaded once as an engine process does, and a way to run workflows with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from limner.compat.custom import Custom
from limner.engine.cache import OutputCache
from limner.engine.context import RunContext
from limner.engine.events import Event, NodeRef, RunResult
from limner.engine.executor import Executor
from limner.enginehost.files import RunFiles
from limner.graph.catalogue import Catalogue
from limner.graph.kinds import NodeType
from limner.graph.validate import validate
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.nodes import library

PACKS = Path(__file__).parents[2] / "data" / "packs"


@dataclass
class Packs:
    """All nodes, own ones and packs'. `written` lists the files of the last run."""

    custom: Custom
    kinds: dict[str, NodeType]
    scratch: Path
    events: list[Event] = field(default_factory=list)
    written: list[dict[str, str]] = field(default_factory=list)
    previews: bool = False

    def __post_init__(self) -> None:
        self.executor = Executor(self.kinds, OutputCache())
        self.catalogue = Catalogue(
            nodes={name: kind.spec for name, kind in self.kinds.items()},
            models={kind: tuple(names) for kind, names in self.custom.place.models.lists().items()},
        )
        self._runs = 0

    def run(self, workflow: dict[str, Any], **inputs: str) -> RunResult:
        checked = validate(workflow, self.catalogue, input_files=list(inputs))
        self._runs += 1
        taken: set[tuple[str, str]] = set()

        def keep(subfolder: str, filename: str, _sha256: str) -> dict[str, str]:
            assert (subfolder, filename) not in taken
            taken.add((subfolder, filename))
            return {"filename": f"kept-{filename}", "subfolder": subfolder}

        files = RunFiles(
            folder=self.scratch / str(self._runs),
            inputs=inputs,
            ask=lambda *_: pytest.fail("no core node saves"),
            keep=keep,
        )
        ctx = RunContext(
            prompt_id="p",
            tenant="t",
            node=NodeRef.plain(""),
            prompt=checked.workflow,
            extra_pnginfo={"workflow": {"nodes": []}},
            files=files,
            services=self.custom.place.services,
            previews=self.previews,
        )
        self.events = []
        self.custom.place.begin(ctx, inputs, "client")
        try:
            result = self.executor.run(
                workflow=checked.workflow,
                outputs=checked.outputs,
                ctx=ctx,
                emit=self.events.append,
                interrupted=lambda: False,
            )
        finally:
            self.custom.place.end()
        self.written = files.written()
        return result


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Packs:
    work = tmp_path_factory.mktemp("place")
    custom = Custom.begin([PACKS], work=work, models=ModelFolders([work / "models"]))
    own = library.load()
    kinds = {**custom.load(own, {ModelLibrary: ModelLibrary(custom.place.models)}), **own}
    return Packs(custom, kinds, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def packs(loaded: Packs) -> Packs:
    loaded.previews = False
    return loaded
