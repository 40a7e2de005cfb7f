"""A gateway whose workers drive ComfyUIs: nodes are shown and checked fast, and files of their loaders go along."""

from __future__ import annotations

import asyncio
from typing import Any

from limner.bus.messages import CatalogueOffer, Heartbeat
from limner.graph.catalogue import Catalogue
from limner.graph.object_info import catalogue_of
from tests.contract.dialect.stack import Stack, picture_workflow
from tests.support import comfyui_nodes
from tests.support.comfyui_nodes import MODELS

NAMES = [f"a folder/a model with a longer name {number:05}.safetensors" for number in range(3_000)]

LOADER = {
    "input": {"required": {"file": [["theirs.txt"], {}], "lora_name": [["None", *NAMES], {}]}},
    "output": ["STRING"],
    "output_name": [],
    "output_node": True,
    "python_module": "custom_nodes.pack",
    "display_name": None,
    "search_aliases": ["x"],
}


def large() -> Catalogue:
    """2,000 classes, a tenth of which offer 3,000 files, and ComfyUI's own."""
    shown: dict[str, Any] = {**comfyui_nodes.core(), "PackLoader": LOADER}
    for number in range(2_000):
        shown[f"Pack{number}"] = LOADER if number % 10 == 0 else shown["KSampler"]
    return catalogue_of(shown, {**MODELS, "loras": NAMES})


async def offer(gateway: Stack, catalogue: Catalogue) -> None:
    told = CatalogueOffer(worker="w", pool="default", digest=catalogue.digest, catalogue=catalogue.to_json())
    answer = await gateway.services.catalogues.offer(told)
    assert answer.ok, answer.reason


async def test_files_that_a_packs_loader_names_go_with_the_job(gateway: Stack) -> None:
    await offer(gateway, catalogue_of({**comfyui_nodes.core(), "PackLoader": LOADER}, MODELS))
    await gateway.http.post("/upload/image", files={"image": ("mine.txt", b"words")})
    for name, inputs in (("mine.txt", ["mine.txt"]), ("theirs.txt", []), ("unknown.txt", [])):
        workflow = {"1": {"class_type": "PackLoader", "inputs": {"file": name, "lora_name": "any"}}}
        await gateway.post(workflow)
        job, claimed = await gateway.claim()
        assert [each["reference"] for each in claimed.inputs] == inputs
        await gateway.done(job, claimed, outcome="succeeded")


async def test_a_packs_class_is_shown_as_its_comfyui_shows_it(gateway: Stack) -> None:
    await offer(gateway, catalogue_of({"PackLoader": LOADER}, {"loras": NAMES}))
    told = (await gateway.http.get("/object_info")).json()["PackLoader"]
    assert told["input"] == LOADER["input"]
    assert (told["search_aliases"], told["output_name"], told["display_name"]) == (["x"], ["STRING"], None)
    assert (await gateway.http.get("/models/loras")).json() == NAMES
    assert (await gateway.http.get("/object_info/PackLoader")).json() == {"PackLoader": told}


async def test_prompts_share_one_reading_of_thousands_of_nodes_and_models(gateway: Stack) -> None:
    """What a prompt is checked against is made once, not for each prompt."""
    catalogue = large()
    await offer(gateway, catalogue)
    current = await gateway.services.catalogues.current()
    assert current == catalogue
    filled = current.filled
    await gateway.post(picture_workflow())
    again = await gateway.services.catalogues.current()
    assert again is current
    assert again.filled is filled


async def test_what_the_first_worker_has_is_waited_for_before_a_prompt_is_refused(gateway: Stack) -> None:
    workflow = {"1": {"class_type": "PackLoader", "inputs": {"file": "theirs.txt", "lora_name": "None"}}}
    nobody = await gateway.http.post("/prompt", json={"prompt": workflow})
    assert (nobody.status_code, nobody.json()["error"]["type"]) == (400, "invalid_prompt")
    starting = Heartbeat(worker="w", pool="default", state="starting", version="1", catalogue="")
    await gateway.services.bus.put_worker(starting)
    early = await gateway.http.post("/prompt", json={"prompt": workflow})
    assert early.status_code == 503
    assert "has not said yet" in early.json()["error"]["message"]
    await offer(gateway, catalogue_of({"PackLoader": LOADER}, {"loras": NAMES}))
    await gateway.post(workflow)
    workflow["1"]["class_type"] = "Unknown"
    late = await gateway.http.post("/prompt", json={"prompt": workflow})
    assert late.status_code == 400


async def test_a_list_of_nodes_that_takes_long_to_make_keeps_nobody_waiting(gateway: Stack) -> None:
    catalogue = large()
    await offer(gateway, catalogue)
    await gateway.services.catalogues.current()
    asking = asyncio.create_task(gateway.http.get("/object_info"))
    answered = 0
    while not asking.done():
        assert (await gateway.http.get("/features")).status_code == 200
        answered += 1
        await asyncio.sleep(0)  # the requests of this test never leave the process, nor its turn
    assert (await asking).json() == catalogue.object_info()
    assert answered > 5


async def test_files_are_offered_as_soon_as_they_are_there(gateway: Stack) -> None:
    await offer(gateway, comfyui_nodes.catalogue())
    for names in (["a.png"], ["a.png", "b.png"]):
        await gateway.http.post("/upload/image", files={"image": (names[-1], b"x")})
        told = (await gateway.http.get("/object_info")).json()
        assert told["LoadImage"]["input"]["required"]["image"][0] == names
        assert told.keys() == comfyui_nodes.catalogue().nodes.keys()
