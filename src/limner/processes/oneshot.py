"""`limner run` without a server: one engine process for one workflow, and its files put into a folder."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.engine.prefixes import BATCH, split_prefix
from limner.enginehost.protocol import RunRequest
from limner.errors import LimnerError
from limner.graph.catalogue import Catalogue
from limner.graph.validate import validate
from limner.models.files import ModelFolders
from limner.processes.engines import Chosen, check_own
from limner.worker.engines.own import OwnEngine, engine_command
from limner.worker.engines.port import EngineEvent, Named, RunEnded, Wanted
from limner.worker.readable import largest_number, place

Watch = Callable[[str, dict[str, Any]], None]
"""Hears of each event: its class name in engine/events.py, and its members."""

Prepare = Callable[[Catalogue], dict[str, Any]]
"""Makes the workflow, once it is known which nodes there are."""


class NodeFailed(LimnerError):
    """A node raised. `details` holds the event that says what and where."""

    code = "node_error"


class RunInterrupted(LimnerError):
    """The run was stopped before its end."""

    code = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class OneShot:
    """Where a single run finds and leaves its files."""

    models: Sequence[Path] = ()
    custom_nodes: Sequence[Path] = ()
    cache: str = "classic"
    extra_model_paths: Sequence[Path] = ()
    options: Sequence[str] = ()  # for the engine process, on models
    inputs: Path
    out: Path


def local_catalogue(models: Sequence[Path], extra: Sequence[Path] = ()) -> Catalogue:
    """What this machine can run, known without loading torch. extra: files that tell of further model folders."""
    return dataclasses.replace(Catalogue.core(), models=ModelFolders(models, extra).lists())


def run_once(workflow: dict[str, Any] | Prepare, shot: OneShot, *, watch: Watch) -> list[Path]:
    """Runs a workflow to its end and gives the paths of what it made, in order.

    `workflow` may be what makes it of the catalogue. Raises WorkflowInvalid, before anything is loaded unless there are
    custom nodes, Misconfigured where the engine is not installed, NodeFailed for what a node raised, EngineLost.
    """
    desk = _Desk(shot.out, watch)
    with tempfile.TemporaryDirectory(prefix="limner-run-") as scratch:
        ended = asyncio.run(_run(workflow, desk, shot, Path(scratch)))
    if ended.outcome == "failed":
        end = ended.end
        where = f"node {end['node']['real']} ({end['node_type']})"
        raise NodeFailed(f"{where} failed: {end['exception_type']}: {end['exception_message'].strip()}", **end)
    if ended.outcome == "interrupted":
        raise RunInterrupted("the run was interrupted")
    return desk.made


async def _run(workflow: dict[str, Any] | Prepare, desk: _Desk, shot: OneShot, scratch: Path) -> RunEnded:
    packs = scratch / "packs"
    engine = OwnEngine(
        engine_command(shot.models, custom_nodes=shot.custom_nodes, work=packs, cache=shot.cache, options=shot.options)
    )
    try:
        catalogue = local_catalogue(shot.models, shot.extra_model_paths)
        if shot.custom_nodes:  # only the engine knows what there is
            check_own([Chosen()])
            await engine.start()
            catalogue = Catalogue.from_json(engine.info.catalogue)
        request = _request(workflow(catalogue) if callable(workflow) else workflow, catalogue, shot, scratch)
        check_own([Chosen()])
        if not engine.alive:
            await engine.start()
        ended = await engine.run(request, desk)
        desk.take(ended.files)
    finally:
        await engine.close()
    return ended


def _request(workflow: dict[str, Any], catalogue: Catalogue, shot: OneShot, scratch: Path) -> RunRequest:
    """The run, with its input files. Raises WorkflowInvalid."""
    checked = validate(workflow, catalogue, input_files=_present_inputs(workflow, catalogue, shot.inputs))
    return RunRequest(
        run=1,
        prompt_id="run",
        tenant="default",
        workflow=checked.workflow,
        outputs=list(checked.outputs),
        inputs={reference: str(_input_path(shot.inputs, reference)) for reference in checked.file_references},
        folder=str(scratch / "out"),
    )


class _Desk:
    """Takes what the run hands out: news to `watch`, files into the folder, under names that were free."""

    def __init__(self, out: Path, watch: Watch) -> None:
        self._out = out
        self._watch = watch
        self._last: dict[tuple[str, str], int] = {}
        self.made: list[Path] = []

    async def event(self, event: EngineEvent) -> None:
        self.take(event.files)
        self._watch(event.kind, event.data)

    async def reserve(self, wanted: Wanted) -> list[dict[str, str]]:
        """Counts on from the largest number in the folder, as ComfyUI does."""
        key = (wanted.subfolder, wanted.prefix)
        last = self._last.get(key) or largest_number(self._out / wanted.subfolder, wanted.prefix)
        self._last[key] = last + wanted.count
        numbers = range(last + 1, last + wanted.count + 1)
        prefixes = [wanted.prefix.replace(BATCH, str(index)) for index in range(wanted.count)]
        names = [f"{prefix}_{number:05}_{wanted.extension}" for prefix, number in zip(prefixes, numbers, strict=True)]
        return [{"filename": name, "subfolder": wanted.subfolder} for name in names]

    async def keep(self, files: list[Named]) -> list[dict[str, str]]:
        """Their own names: a file that is in the way stays, and `place` finds another."""
        return [{"filename": file.filename, "subfolder": file.subfolder, "key": file.sha256} for file in files]

    def take(self, files: list[dict[str, str]]) -> None:
        for file in files:
            target = self._out / file["subfolder"] / file["filename"]
            self.made.append(place(Path(file["path"]), target))


def _present_inputs(workflow: Any, catalogue: Catalogue, folder: Path) -> list[str]:
    """Those of the input files named in the workflow that are there."""
    names: list[str] = []
    for node in workflow.values() if isinstance(workflow, dict) else ():
        spec = catalogue.nodes.get(str(node.get("class_type"))) if isinstance(node, dict) else None
        values = node.get("inputs") if isinstance(node, dict) else None
        if spec is None or not isinstance(values, dict):
            continue
        uploads = (values.get(each.name) for each in spec.inputs if each.upload)
        names += [name for name in uploads if isinstance(name, str) and _is_input(folder, name)]
    return names


def _is_input(folder: Path, name: str) -> bool:
    try:
        return _input_path(folder, name).is_file()
    except (LimnerError, OSError, ValueError):
        return False


def _input_path(folder: Path, reference: str) -> Path:
    """Raises BadName for a name that leaves the folder."""
    subfolder, name = split_prefix(reference.removesuffix(" [input]"))
    return folder / subfolder / name
