"""Getting a prompt onto an instance once, whatever becomes of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from limner.worker.engines.comfyui.client import ComfyClient, Refused, Unreachable
from limner.worker.engines.comfyui.patience import Patience
from limner.worker.engines.comfyui.placing import Placing
from limner.worker.engines.comfyui.queue import Queue
from limner.worker.engines.port import EngineLost
from tests.unit.worker.comfyui.fakes import request

SUCCESS = {"status_str": "success", "completed": True, "messages": []}


@dataclass
class Instance:
    """Runs a prompt as soon as it has it. `faults`: raised for the next submits, once the prompt is there.

    `own_ids`: it gives each prompt an id of its own, as old versions do. `loses`: what it is sent never arrives.
    """

    faults: list[Exception] = field(default_factory=list)
    own_ids: bool = False
    loses: bool = False
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    submits: int = 0

    async def submit(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.submits += 1
        prompt_id = f"own-{self.submits}" if self.own_ids else body["prompt_id"]
        if not self.loses:
            prompt = [0, prompt_id, body["prompt"], body["extra_data"], []]
            self.entries[prompt_id] = {"prompt": prompt, "outputs": {}, "status": SUCCESS}
        if self.faults:
            raise self.faults.pop(0)
        return {"prompt_id": prompt_id, "node_errors": {}}

    async def queue(self) -> Queue:
        return Queue()

    async def history(self, prompt_id: str) -> dict[str, Any] | None:
        return self.entries.get(prompt_id)

    async def recent(self, most: int) -> dict[str, dict[str, Any]]:
        return self.entries


def placing(instance: Instance) -> Placing:
    return Placing(cast(ComfyClient, instance), "w", "d", Patience(submit_pause=0.0))


@pytest.mark.parametrize("own_ids", [False, True])
@pytest.mark.parametrize("fault", [Unreachable("cut off"), Refused(500, "")])
async def test_a_prompt_whose_answer_was_lost_is_not_sent_again(
    tmp_path: Path, own_ids: bool, fault: Exception
) -> None:
    instance = Instance([fault], own_ids=own_ids)
    placed = await placing(instance).submit(request(tmp_path, job="job", token="t"), {}, "client")
    assert (placed.prompt_id, instance.submits) == ("own-1" if own_ids else "job", 1)


async def test_a_prompt_that_never_arrived_is_sent_again_and_not_for_ever(tmp_path: Path) -> None:
    instance = Instance([Unreachable("cut off")] * 9, loses=True)
    with pytest.raises(EngineLost):
        await placing(instance).submit(request(tmp_path, job="job", token="t"), {}, "client")
    assert instance.submits == 3


async def test_an_earlier_attempts_entry_is_not_taken_for_what_was_just_sent(tmp_path: Path) -> None:
    instance = Instance()
    await placing(instance).submit(request(tmp_path, job="job", token="first"), {}, "client")
    instance.loses, instance.faults = True, [Unreachable("cut off")]
    await placing(instance).submit(request(tmp_path, job="job", token="second"), {}, "client")
    assert instance.submits == 3
