"""Writes the tables of docs/compatibility.md: samplers and schedules against what was recorded, nodes and families.

    python -m tools.compatibility --write

Without --write it shows them. Run it from the root of the repository.
"""

from __future__ import annotations

import argparse
import gzip
import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tests.unit.diffusion.recorded import LEVELS, SAMPLED, SCHEDULED, passed, walk

from limner.diffusion.samplers import SAMPLERS, Sampler
from limner.diffusion.schedules import SCHEDULES
from limner.graph.kinds import NodeType
from limner.models.family import known
from limner.nodes import library as nodes

PAGE = Path(__file__).parents[1] / "docs/compatibility.md"
RECORDED_NODES = Path(__file__).parents[1] / "tests/data/comfyui_object_info.json.gz"
ALLOWED = 1e-4


def sampler_errors() -> dict[str, dict[str, float]]:
    """For each sampler, how far each recorded walk ends from the recording."""
    errors: dict[str, dict[str, float]] = {name: {} for name in SAMPLERS}
    for key in SAMPLED["runs"]:
        model, schedule, name = key.split("/")
        errors[name][f"{model}/{schedule}"] = walk(key).error
    return errors


def schedule_errors() -> dict[str, float]:
    """For each schedule, the worst relative distance of a level from the recording, over all kinds of model."""
    errors = {}
    for schedule in SCHEDULES:
        distances = [
            abs(ours - theirs) / max(abs(theirs), 1.0)
            for kind in LEVELS
            for run, levels in SCHEDULED[kind]["schedules"][schedule].items()
            for ours, theirs in zip(passed(kind, schedule, run), map(float, levels), strict=True)
        ]
        errors[schedule] = max(distance for distance in distances if not math.isnan(distance))
    return errors


def bound(error: float) -> str:
    """A power of ten that the error stays below with room for another machine's rounding."""
    return f"1e-{min(6, math.floor(-math.log10(max(2 * error, 1e-12))))}"


def tables() -> dict[str, str]:
    return {
        "samplers": "\n".join(_samplers()),
        "schedulers": "\n".join(_schedules()),
        "families": "\n".join(_families()),
        "nodes": "\n".join(_nodes()),
    }


def written(page: str) -> dict[str, str]:
    """The tables as they stand in a page."""
    return {name: body.strip() for name, body in re.findall(r"<!-- (\w+) -->\n(.*?)<!-- /\1 -->", page, re.S)}


def _samplers() -> Iterator[str]:
    yield "| Sampler | State | Off by less than | Order | Noise on its way | What it does |"
    yield "|---|---|---|---|---|---|"
    for name, errors in sampler_errors().items():
        sampler, worst = SAMPLERS[name], max(errors.values())
        state = "as recorded" if worst < ALLOWED else "differs"
        facts = f"{sampler.order or 'none'} | {_noise(sampler)} | {_told(sampler)}"
        yield f"| `{name}` | {state} | {bound(worst)} | {facts} |"


def _schedules() -> Iterator[str]:
    yield "| Scheduler | State | Off by less than | What it does |"
    yield "|---|---|---|---|"
    for name, error in schedule_errors().items():
        state = "as recorded" if error < ALLOWED else "differs"
        yield f"| `{name}` | {state} | {bound(error)} | {_first_line(SCHEDULES[name])} |"


def _families() -> Iterator[str]:
    yield "| Family | Latents | What it is |"
    yield "|---|---|---|"
    for family in sorted(known(), key=lambda each: each.title):
        latents = family.latents
        yield f"| {family.title} | {latents.channels} channels, 1/{latents.stride} | {_first_paragraph(type(family))} |"


def _nodes() -> Iterator[str]:
    library, recorded = nodes.load(), recorded_nodes()
    yield f"{len(library)} classes; of the {len(recorded)} recorded ones {len(library.keys() & recorded.keys())}."
    yield ""
    yield "| Class | From | State | What it does |"
    yield "|---|---|---|---|"
    for name in sorted(library.keys() | recorded.keys(), key=lambda each: (_module(library, recorded, each), each)):
        known_here = library.get(name)
        state = "as recorded" if name in recorded else "newer"
        told = (known_here.spec.description.split("\n")[0].replace("|", "\\|")) if known_here else ""
        yield f"| `{name}` | {_module(library, recorded, name)} | {state if known_here else 'not there'} | {told} |"


def _module(library: Mapping[str, NodeType], recorded: Mapping[str, Any], name: str) -> str:
    module = recorded[name]["python_module"] if name in recorded else library[name].spec.python_module
    return str(module).removeprefix("comfy_extras.nodes_")


def recorded_nodes() -> dict[str, Any]:
    """The recorded server's /object_info, without nodes that call paid services."""
    found: dict[str, Any] = json.loads(gzip.decompress(RECORDED_NODES.read_bytes()))
    return found


def _noise(sampler: Sampler) -> str:
    if sampler.takes("between"):
        return "Brownian motion, drawn on the GPU" if sampler.on_device else "Brownian motion, drawn on the CPU"
    return "fresh at each step" if sampler.random else "no"


def _told(sampler: Sampler) -> str:
    walk, settings = sampler.walk, {}
    while isinstance(walk, partial):
        settings |= walk.keywords
        walk = walk.func
    with_settings = "".join(f" ({name}={value})" for name, value in settings.items())
    return _first_line(walk) + with_settings


def _first_paragraph(documented: object) -> str:
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").split("\n")[0].replace("|", "\\|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/compatibility.md")
    if not parser.parse_args().write:
        print("\n\n".join(tables().values()))
        return
    page = PAGE.read_text(encoding="utf-8")
    for name, table in tables().items():
        page = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m, t=table: f"{m[1]}{t}\n{m[2]}", page, flags=re.S
        )
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
