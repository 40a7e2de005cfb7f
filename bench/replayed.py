"""A ComfyUI that answers as the recorded one did and computes nothing.

`python -m bench.replayed JOBS` runs it until its standard input ends. It leaves the machine to what is measured, as a
ComfyUI that works on a GPU does.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from tests.support.replayer import Replayer
from tests.support.replayer.script import Script, scripts

RUN = "01"
"""The recording: one picture made and saved."""


def graph() -> dict[str, Any]:
    return next(scripts(RUN)).graph


def _run(number: int) -> Script:
    """The recorded run with a picture of its own, so that none is stored already."""
    recorded = next(scripts(RUN))
    name = f"bench_{number:05}_.png"
    ui = {"images": [{"filename": name, "subfolder": "", "type": "output"}]}
    picture = next(iter(recorded.files.values()), b"picture")
    return recorded.showing(ui, {("output", "", name): picture + str(number).encode()})


async def _serve(jobs: int) -> None:
    async with Replayer() as comfyui:
        comfyui.play(*(_run(number) for number in range(jobs)))
        print(comfyui.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
