"""What a pack's node returned, in whatever form, as a Result; and the files that it names, made the job's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from limner.compat.inputs import as_json
from limner.compat.place import here
from limner.engine.context import RunContext
from limner.graph.blocker import ExecutionBlocker
from limner.graph.kinds import Result

COLLECTED = ("output", "temp")


def result_of(returned: Any, outputs: int, ctx: RunContext) -> Result:
    """A tuple of values, `{"result", "ui", "expand"}`, a blocker for all outputs, or None. Raises TypeError."""
    ui: Any = None
    expand: Any = None
    values = returned
    if isinstance(returned, Mapping):
        ui, expand, values = returned.get("ui"), returned.get("expand"), returned.get("result")
    return Result(
        values=values_of(values, outputs), ui=None if ui is None else shown(ui, ctx), expand=expand if expand else None
    )


def values_of(values: Any, outputs: int) -> tuple[Any, ...]:
    """One for each output, None where there are too few: nobody may ask for those."""
    if isinstance(values, ExecutionBlocker):
        return (values,) * outputs
    if values is None:
        return (None,) * outputs
    if isinstance(values, tuple | list):
        return (*values[:outputs], *[None] * (outputs - len(values)))
    try:  # a node that forgot the comma in `(image,)`: ComfyUI takes the first item of what it returned
        return tuple(values[slot] for slot in range(outputs))
    except (TypeError, KeyError, IndexError):
        raise TypeError(
            f"the node returned {type(values).__name__}; it must return a tuple with a value for each of its "
            f"{outputs} outputs"
        ) from None


def shown(ui: Any, ctx: RunContext) -> dict[str, list[Any]]:
    """What a node wants shown as lists of JSON data, its files taken over. Raises TypeError for what is no lists."""
    if not isinstance(ui, Mapping):
        raise TypeError(f"ui must be an object of lists, not {type(ui).__name__}")
    found: dict[str, list[Any]] = {}
    for name, items in ui.items():
        if not isinstance(items, Iterable):
            raise TypeError(f"ui[{name!r}] must be a list, not {type(items).__name__}")
        found[str(name)] = [_collected(as_json(item), ctx) for item in items]
    return found


def _collected(item: Any, ctx: RunContext) -> Any:
    """An entry `{"filename", "subfolder", "type"}` of a file in the run's folders: under the name that it got."""
    if not isinstance(item, dict) or item.get("type") not in COLLECTED or not isinstance(item.get("filename"), str):
        return item
    subfolder = str(item.get("subfolder") or "").replace("\\", "/").strip("/")
    path = _inside(here().folder / item["type"], subfolder, item["filename"])
    if path is None:
        return item
    saved = ctx.files.adopt(path, type=item["type"], subfolder=subfolder, filename=item["filename"])
    return {**item, **saved.ui()}


def _inside(folder: Path, subfolder: str, filename: str) -> Path | None:
    path = folder / subfolder / filename
    return path if path.is_file() and path.resolve().is_relative_to(folder.resolve()) else None


def names(values: Sequence[Any] | str | None) -> tuple[str, ...]:
    """Texts of a class attribute that should be a tuple of them; one alone counts as one."""
    return () if values is None else (values,) if isinstance(values, str) else tuple(map(str, values))
