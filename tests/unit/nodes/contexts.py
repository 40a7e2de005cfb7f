"""A run's context over a local folder, for tests that call one node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.engine.context import RunContext, SavedFile
from limner.engine.events import NodeRef
from limner.graph.kinds import NodeType, Result


def result_of(kind: NodeType, inputs: Mapping[str, Any], ctx: Any = None) -> Result:
    """What a node that is no coroutine returns."""
    result = kind.call(inputs, ctx)
    assert isinstance(result, Result)
    return result


@dataclass
class LocalFiles:
    folder: Path
    reserved: list[dict[str, Any]] = field(default_factory=list)

    def input(self, reference: str) -> Path:
        return self.folder / reference

    def reserve(self, **wanted: Any) -> list[SavedFile]:
        self.reserved.append(wanted)
        names = [f"{wanted['prefix']}_{number:05}_{wanted['extension']}" for number in range(1, wanted["count"] + 1)]
        return [SavedFile(path=self.folder / name, filename=name, subfolder="", type=wanted["type"]) for name in names]

    def adopt(self, path: Path, *, type: str, subfolder: str, filename: str) -> SavedFile:
        return SavedFile(path=path, filename=filename, subfolder=subfolder, type=type)


@dataclass
class Run:
    """A context, and what the node told through it."""

    ctx: RunContext
    files: LocalFiles
    steps: list[tuple[float, float, tuple[str, bytes] | None]]
    warnings: list[str]


def run_in(folder: Path, **facts: Any) -> Run:
    steps: list[tuple[float, float, tuple[str, bytes] | None]] = []
    warnings: list[str] = []
    files = LocalFiles(folder)
    ctx = RunContext(
        prompt_id="p",
        tenant="default",
        node=NodeRef.plain("1"),
        prompt={},
        extra_pnginfo=None,
        files=files,
        on_step=lambda *step: steps.append(step),
        on_warning=warnings.append,
        **facts,
    )
    return Run(ctx, files, steps, warnings)
