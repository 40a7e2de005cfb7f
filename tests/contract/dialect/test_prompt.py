"""POST /prompt, /queue and /history as callers see them."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest

from tests.contract.dialect.stack import Stack, picture_workflow
from tests.unit.comfy.recordings import TRANSCRIPTS


async def test_an_accepted_prompt_is_answered_and_listed_as_in_comfyui(gateway: Stack) -> None:
    body = {"prompt": picture_workflow(), "client_id": "c", "extra_data": {"extra_pnginfo": {"workflow": {}}}}
    answer = await gateway.http.post("/prompt", json=body)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    told = answer.json()
    assert told == {"prompt_id": str(uuid.UUID(told["prompt_id"])), "number": 0, "node_errors": {}}
    item = [0, told["prompt_id"], body["prompt"], {"extra_pnginfo": {"workflow": {}}, "client_id": "c"}, ["2"]]
    assert (await gateway.http.get("/api/queue")).json() == {"queue_running": [], "queue_pending": [item]}
    assert (await gateway.http.get("/prompt")).json() == {"exec_info": {"queue_remaining": 1}}
    assert (await gateway.http.get(f"/history/{told['prompt_id']}")).json() == {}


async def test_a_job_goes_from_waiting_to_running_to_history(gateway: Stack) -> None:
    prompt_id = await gateway.post(picture_workflow())
    job, claimed = await gateway.claim()
    queue = (await gateway.http.get("/queue")).json()
    assert [item[1] for item in queue["queue_running"]] == [prompt_id]
    assert queue["queue_pending"] == []
    outputs = {"2": {"images": [{"filename": "a.png", "subfolder": "", "type": "temp"}]}}
    meta = {"2": {"node_id": "2", "display_node": "2", "parent_node": None, "real_node_id": "2"}}
    messages = [["execution_success", {"prompt_id": prompt_id, "timestamp": 5}]]
    await gateway.done(job, claimed, outcome="succeeded", outputs=outputs, meta=meta, messages=messages)
    entry = (await gateway.http.get(f"/api/history/{prompt_id}")).json()[prompt_id]
    assert entry == {
        "prompt": [0, prompt_id, picture_workflow(), {}, ["2"]],
        "outputs": outputs,
        "status": {"status_str": "success", "completed": True, "messages": messages},
        "meta": meta,
    }
    assert (await gateway.http.get("/history")).json() == {prompt_id: entry}
    assert (await gateway.http.get("/prompt")).json() == {"exec_info": {"queue_remaining": 0}}


async def test_numbers_count_up_and_given_ones_are_floats(gateway: Stack) -> None:
    answers = [
        (await gateway.http.post("/prompt", json={"prompt": picture_workflow(), **members})).json()["number"]
        for members in ({}, {"front": True}, {"number": "7"}, {})
    ]
    assert answers == [0, -1, 7.0, 2]
    assert isinstance(answers[2], float)
    pending = (await gateway.http.get("/queue")).json()["queue_pending"]
    assert [item[0] for item in pending] == [-1, 0, 2, 7.0]


async def test_jobs_start_in_the_recorded_order(gateway: Stack) -> None:
    transcript = json.loads((TRANSCRIPTS / "24_queue_order.json").read_text())
    bodies = [each["request"]["json"] for each in transcript["exchanges"] if each["request"]["method"] == "POST"]
    frames = transcript["websockets"][0]["events"]
    expected = [frame["data"]["prompt_id"] for frame in frames if frame.get("type") == "execution_start"]
    started = []
    for index, body in enumerate(bodies):
        asked = {name: body[name] for name in ("prompt_id", "front", "number") if name in body}
        await gateway.post(picture_workflow(index), **asked)
        if index == 0:
            job, claimed = await gateway.claim()
            started.append(claimed.prompt_id)
    await gateway.done(job, claimed, outcome="succeeded")
    for _ in bodies[1:]:
        started.append(await gateway.run())
    assert started == expected


async def test_account_tokens_are_stored_nowhere(gateway: Stack) -> None:
    secrets = {"auth_token_comfy_org": "SECRET", "api_key_comfy_org": "SECRET"}
    prompt_id = await gateway.post(picture_workflow(), extra_data=secrets)
    await gateway.run()
    assert "SECRET" not in (await gateway.http.get(f"/history/{prompt_id}")).text


async def test_a_live_duplicate_of_an_id_is_refused_and_an_ended_one_is_replaced(gateway: Stack) -> None:
    await gateway.post(picture_workflow(1), prompt_id="same")
    answer = await gateway.http.post("/prompt", json={"prompt": picture_workflow(2), "prompt_id": "same"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["details"], error["extra_info"]) == ("prompt_id_in_use", "same", {})
    assert "'same'" in error["message"]
    assert answer.json()["node_errors"] == {}
    await gateway.run()
    await gateway.post(picture_workflow(3), prompt_id="same")
    await gateway.run()
    history = (await gateway.http.get("/history")).json()
    assert history["same"]["prompt"][2] == picture_workflow(3)


@pytest.mark.parametrize("content_type", ["text/plain;charset=UTF-8", "application/x-www-form-urlencoded", ""])
async def test_bodies_are_read_whatever_their_type(gateway: Stack, content_type: str) -> None:
    content = json.dumps({"prompt": picture_workflow()}).encode()
    answer = await gateway.http.post("/prompt", content=content, headers={"content-type": content_type})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"", "malformed_json", "empty"),
        (b"{not", "malformed_json", "not JSON"),
        (b'{"prompt": {"1": {"class_type": "X", "inputs": {"a": NaN}}}}', "malformed_json", "NaN"),
        (b"[" * 100_000, "malformed_json", "levels"),
        (b'{"prompt":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, "malformed_json", "levels"),
        (b'"text"', "invalid_body", "object"),
        (b"null", "invalid_body", "object"),
        (b"[]", "no_prompt", "No prompt provided"),
        (b"{}", "no_prompt", "No prompt provided"),
        (b'{"prompt": null}', "no_prompt", "No prompt provided"),
        (b'{"prompt": 5}', "invalid_prompt", "object"),
        (b'{"prompt": {}}', "prompt_no_outputs", "no outputs"),
        (b'{"prompt": {"1": {"inputs": {}}}}', "invalid_prompt", "class_type"),
        (b'{"prompt": {"1": {"class_type": "Nope", "inputs": {}}}}', "invalid_prompt", "Nope"),
        (b'{"prompt": {"1": {"class_type": ["Nope"], "inputs": {}}}}', "invalid_prompt", "['Nope'] does not exist"),
        (b'{"prompt": {"1": {"class_type": {"a": 1}, "inputs": {}}}}', "invalid_prompt", "does not exist"),
        (b'{"prompt": {"1": {"class_type": null, "inputs": {}}}}', "invalid_prompt", "None does not exist"),
        (
            b'{"prompt": {"1": {"class_type": "LoadImage", "inputs": {"image": {"__value__": ["a"]}}}}}',
            "prompt_no_outputs",
            "no outputs",
        ),
        (b'{"prompt": {"nodes": [], "links": []}}', "invalid_prompt", "Export (API)"),
        (b'{"nodes": [], "links": []}', "invalid_prompt", "Export (API)"),
        (b'{"prompt": {}, "number": "x"}', "invalid_number", "finite number"),
    ],
)
async def test_a_bad_body_is_a_400_in_comfyuis_shape(gateway: Stack, body: bytes, kind: str, words: str) -> None:
    answer = await gateway.http.post("/prompt", content=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error.keys() == {"type", "message", "details", "extra_info"}
    assert error["type"] == kind
    assert words in error["message"]
    assert answer.json()["node_errors"] == {}
    assert (await gateway.http.get("/prompt")).json() == {"exec_info": {"queue_remaining": 0}}


async def test_node_errors_are_told_for_each_node(gateway: Stack) -> None:
    workflow = picture_workflow()
    del workflow["2"]["inputs"]["images"]
    answer = await gateway.http.post("/prompt", json={"prompt": workflow})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "prompt_outputs_failed_validation"
    assert answer.json()["node_errors"]["2"]["errors"][0]["type"] == "required_input_missing"


async def test_a_good_output_beside_a_bad_one_runs_and_the_bad_one_is_told(gateway: Stack) -> None:
    workflow = {**picture_workflow(), "3": {"class_type": "PreviewImage", "inputs": {}}}
    answer = (await gateway.http.post("/prompt", json={"prompt": workflow})).json()
    assert list(answer["node_errors"]) == ["3"]
    assert (await gateway.http.get("/queue")).json()["queue_pending"][0][4] == ["2"]


async def test_ten_thousand_nodes_do_not_keep_others_waiting(gateway: Stack) -> None:
    workflow: dict[str, Any] = {"0": picture_workflow()["1"]}
    for n in range(1, 10_000):
        workflow[str(n)] = {"class_type": "ImageInvert", "inputs": {"image": [str(n - 1), 0]}}
    workflow["end"] = {"class_type": "PreviewImage", "inputs": {"images": ["9999", 0]}}
    posting = asyncio.create_task(gateway.post(workflow))
    answers = 0
    while not posting.done():
        assert (await gateway.http.get("/features")).status_code == 200
        answers += 1
        await asyncio.wait({posting}, timeout=0.001)
    assert (await gateway.http.get("/queue")).json()["queue_pending"][0][1] == await posting
    assert answers > 5


async def test_waiting_jobs_can_be_taken_out_by_id_or_all_at_once(gateway: Stack) -> None:
    ids = [await gateway.post(picture_workflow(n)) for n in range(4)]
    answer = await gateway.http.post("/queue", json={"delete": [ids[1], "unknown"]})
    assert (answer.status_code, answer.content) == (200, b"")
    assert "content-type" not in answer.headers
    assert [item[1] for item in (await gateway.http.get("/queue")).json()["queue_pending"]] == [ids[0], *ids[2:]]
    assert (await gateway.http.post("/api/queue", json={"clear": True})).status_code == 200
    assert (await gateway.http.get("/queue")).json()["queue_pending"] == []
    assert (await gateway.http.get("/history")).json() == {}


@pytest.mark.parametrize("path", ["/queue", "/history", "/free"])
@pytest.mark.parametrize("body", [b"", b"[1]", b"nonsense"])
async def test_a_bad_body_elsewhere_is_a_400_too(gateway: Stack, path: str, body: bytes) -> None:
    answer = await gateway.http.post(path, content=body)
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]["message"]


async def test_delete_wants_a_list(gateway: Stack) -> None:
    answer = await gateway.http.post("/queue", json={"delete": "abc"})
    assert answer.status_code == 400
    assert "list of prompt ids" in answer.json()["error"]["message"]


async def test_history_is_paged_and_deleted_as_recorded(gateway: Stack) -> None:
    recorded = json.loads((TRANSCRIPTS / "25_history.json").read_text())["exchanges"]
    for name in ("h50", "h51", "h52", "h53"):
        await gateway.post(picture_workflow(), prompt_id=name)
        await gateway.run()
    for each in recorded[2:]:
        request, response = each["request"], each["response"]
        if response["status"] == 500:
            continue
        answer = await gateway.http.request(request["method"], request["path"], json=request.get("json"))
        assert answer.status_code == response["status"], request
        if "keys_in_order" in response:
            assert list(answer.json()) == response["keys_in_order"], request
    assert (await gateway.http.get("/history?max_items=x")).status_code == 400


async def test_a_long_queue_and_a_long_history_are_whole(gateway: Stack) -> None:
    ids = [await gateway.post(picture_workflow(n)) for n in range(110)]
    queue = (await gateway.http.get("/queue")).json()
    assert [item[1] for item in queue["queue_pending"]] == ids
    for _ in ids:
        await gateway.run()
    history = (await gateway.http.get("/history")).json()
    assert list(history) == ids
    assert history[ids[7]]["prompt"][2] == picture_workflow(7)


async def test_interrupt_takes_any_body_and_stops_only_what_runs(gateway: Stack) -> None:
    running = await gateway.post(picture_workflow(1))
    waiting = await gateway.post(picture_workflow(2))
    job, claimed = await gateway.claim()
    for body in (b'{"prompt_id": "other"}', b"", b"nonsense", b"{}"):
        assert (await gateway.http.post("/interrupt", content=body)).status_code == 200
    assert (await gateway.http.post("/interrupt", content=b"[1]")).status_code == 400
    messages = [["execution_interrupted", {"prompt_id": running, "timestamp": 1}]]
    await gateway.done(job, claimed, outcome="interrupted", messages=messages)
    entry = (await gateway.http.get(f"/history/{running}")).json()[running]
    assert entry["status"] == {"status_str": "error", "completed": False, "messages": messages}
    assert [item[1] for item in (await gateway.http.get("/queue")).json()["queue_pending"]] == [waiting]


async def test_free_is_answered_empty(gateway: Stack) -> None:
    answer = await gateway.http.post("/free", json={"unload_models": True, "free_memory": True})
    assert (answer.status_code, answer.content) == (200, b"")
