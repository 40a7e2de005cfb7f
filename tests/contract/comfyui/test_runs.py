"""ComfyEngine at a ComfyUI that is well: what a run tells, how it ends, and which files it brings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.comfyui.driving import Driven, RecordingSink, driving, files_of, recorded, sha256
from tests.support.recordings import comparable, history, prompts, recording
from tests.support.replayer import OLD, Replayer
from tests.support.replayer.state import made_picture

SINGLE = ["01", "20", "42", "53", "54", "56", "57", "58", "60"]


@pytest.fixture
async def driven(comfyui: Replayer, tmp_path: Path) -> Any:
    async with driving(comfyui, tmp_path) as one:
        yield one


def expected(name: str, prompt_id: str) -> Iterator[tuple[str, Any]]:
    """What a run tells, from what the recorded client saw of it."""
    sockets = [e for socket in recording(name)["websockets"] for e in socket["events"]]
    running: set[str] = set()
    finished: set[str] = set()
    for event in sockets:
        if "data" not in event or event["data"].get("prompt_id") != prompt_id:
            continue
        data = event["data"]
        match event["type"]:
            case "execution_start":
                yield "RunStarted", None
            case "execution_cached":
                yield "NodesCached", data["nodes"]
            case "executing" if data["node"] is not None:
                running.add(data["node"])
                yield "NodeStarted", data["node"]
            case "progress":
                yield "StepDone", data["node"]
            case "executed":
                yield "NodeOutput", data["node"]
            case "progress_state":
                for node, state in data["nodes"].items():
                    if state["state"] == "finished" and node not in finished:
                        finished.add(node)
                        yield "NodeFinished", node


def told(sink: RecordingSink) -> list[tuple[str, Any]]:
    def about(data: dict[str, Any]) -> Any:
        return data["node"]["id"] if "node" in data else data.get("nodes")

    left_out = ("PreviewReady", "TextShown", "PackEvent", "Warned")
    return [(event.kind, about(event.data)) for event in sink.events if event.kind not in left_out]


@pytest.mark.parametrize("name", SINGLE)
async def test_a_run_tells_what_its_client_would_have_seen_and_ends_as_history_says(driven: Driven, name: str) -> None:
    body, sink = recorded(name), RecordingSink()
    end = await driven.run(driven.request(body), sink)
    assert told(sink) == list(expected(name, body["prompt_id"]))
    try:
        entry = history(recording(name), body["prompt_id"])
    except KeyError:
        return
    assert end.outcome == {"success": "succeeded", "error": "failed"}[entry["status"]["status_str"]]
    assert end.meta == entry["meta"]
    assert set(end.outputs) == set(entry["outputs"])


async def test_the_picture_comes_with_its_bytes_under_its_name(driven: Driven) -> None:
    sink = RecordingSink()
    end = await driven.run(driven.request(recorded("01")), sink)
    [(name, content)] = files_of(end, sink).items()
    assert (name, sha256(content)[:16]) == ("anchor_00001_.png", "3755ff9b2072cd3a")
    assert [(each.filename, each.sha256) for each in sink.asked] == [(name, sha256(content))]
    assert end.outputs == {"4": {"images": [{"filename": name, "subfolder": "", "type": "output"}]}}
    [shown] = sink.of("NodeOutput")
    assert shown.data["ui"] == end.outputs["4"]
    assert [each["filename"] for each in shown.files] == [name]  # there before the event that names it
    assert shown.files[0]["key"] == f"job/{sha256(content)[:32]}"


async def test_a_name_that_is_taken_changes_in_what_is_told_and_in_the_end(driven: Driven) -> None:
    sink = RecordingSink()
    sink.taken["", "anchor_00001_.png"] = "other bytes"
    end = await driven.run(driven.request(recorded("01")), sink)
    assert end.outputs["4"]["images"][0]["filename"] == "anchor_00001_ (1).png"
    assert sink.of("NodeOutput")[0].data["ui"] == end.outputs["4"]
    assert list(files_of(end, sink)) == ["anchor_00001_ (1).png"]


async def test_cached_results_are_told_as_such_and_their_files_brought_again(driven: Driven) -> None:
    await driven.run(driven.request(recorded("01")))
    sink = RecordingSink()
    end = await driven.run(driven.request(recorded("01")), sink)
    assert sink.of("NodesCached")[0].data["nodes"] == ["1", "2", "3", "4"]
    assert [event.data["cached"] for event in sink.of("NodeOutput")] == [True]
    assert list(files_of(end, sink)) == ["anchor_00001_.png"]


async def test_a_raised_exception_is_told_in_full(driven: Driven) -> None:
    body = recorded("20")
    end = await driven.run(driven.request(body))
    said = comparable(history(recording("20"), body["prompt_id"])["status"]["messages"][-1][1])
    assert end.outcome == "failed"
    for member in ("exception_type", "exception_message", "node_type", "current_inputs"):
        assert end.end[member] == said[member]
    assert sorted(end.end["executed"]) == said["executed"]
    assert sorted(end.end["current_outputs"]) == said["current_outputs"]
    assert end.end["node"]["id"] == said["node_id"]
    assert end.end["retryable"] is False
    assert end.end["traceback"]


async def test_a_blocked_node_fails_nothing(driven: Driven) -> None:
    sink = RecordingSink()
    end = await driven.run(driven.request(recorded("53", 1)), sink)
    assert end.outcome == "succeeded"
    [event] = sink.of("PackEvent")
    assert (event.data["name"], event.data["data"]["exception_type"]) == ("execution_error", "ExecutionBlocked")


async def test_nodes_made_by_expansion_are_told_with_the_node_that_made_them(driven: Driven) -> None:
    sink = RecordingSink()
    await driven.run(driven.request(recorded("54")), sink)
    made = next(e.data["node"] for e in sink.of("NodeFinished") if e.data["node"]["id"] == "1.0.0.1")
    assert made == {"id": "1.0.0.1", "display": "1", "parent": "1", "real": "1"}


async def test_texts_and_events_of_packs_are_passed_on(driven: Driven) -> None:
    sink = RecordingSink()
    await driven.run(driven.request(recorded("43")), sink)
    assert [(e.data["node"]["id"], e.data["text"]) for e in sink.of("TextShown")] == [("1", "héllo")]
    assert [e.data["name"] for e in sink.of("PackEvent")] == ["anchor.custom", "anchor.broadcast"]


@pytest.mark.parametrize("watched", [True, False])
async def test_previews_are_passed_on_while_somebody_watches(driven: Driven, watched: bool) -> None:
    sink = RecordingSink()
    await driven.run(driven.request(recorded("42", 2), previews=watched), sink)
    pictures = sink.of("PreviewReady")
    assert len(pictures) == (2 if watched else 0)
    assert all(p.picture.startswith(b"\xff\xd8\xff") and p.data["image_type"] == "image/jpeg" for p in pictures)
    assert all(p.data["node"]["id"] == "1" for p in pictures)


async def test_outputs_that_were_dropped_are_warned_of_and_the_rest_runs(driven: Driven) -> None:
    sink = RecordingSink()
    body = recorded("11")
    end = await driven.run(driven.request(body), sink)
    errors = [e for x in recording("11")["exchanges"] for e in (x["response"]["json"].get("node_errors") or {})]
    assert end.outcome == "succeeded"
    assert [event.data["node"]["id"] for event in sink.of("Warned")] == errors
    assert set(end.outputs) == set(history(recording("11"), body["prompt_id"])["outputs"])


UNFIT = ("unknown class", "not in list")


async def test_every_recorded_refusal_is_carried_on_in_full(comfyui: Replayer, driven: Driven) -> None:
    for exchange in recording("10")["exchanges"]:
        body = exchange["request"].get("json")
        graph = body.get("prompt") if isinstance(body, dict) else None
        if exchange["response"]["status"] == 400 and isinstance(graph, dict) and graph:
            await is_carried_on(comfyui, driven, graph, exchange)


async def is_carried_on(comfyui: Replayer, driven: Driven, graph: dict[str, Any], exchange: dict[str, Any]) -> None:
    note, answer = exchange["request"]["note"], exchange["response"]["json"]
    classes = comfyui.object_info()
    outputs = [n for n, node in graph.items() if classes.get(str(node.get("class_type")), {}).get("output_node")]
    end = await driven.run(driven.request({"prompt": {}}, workflow=graph, outputs=outputs))
    assert not comfyui.unknown, f"{note}: another graph was sent than the one that was asked for"
    unfit = note.startswith(UNFIT)
    assert end.outcome == ("unfit" if unfit else "failed"), note
    assert end.end["refusal"] == {"error": answer["error"], "node_errors": answer["node_errors"]}, note
    assert end.end["code"] == ("unfit_worker" if unfit else "workflow_refused"), note
    assert end.end["retryable"] is False, note
    for node_error in answer["node_errors"].values():
        for each in node_error["errors"]:
            assert each["message"] in end.end["exception_message"], note


async def test_input_files_go_up_under_names_of_their_own_and_come_back_under_the_callers(
    comfyui: Replayer, driven: Driven, tmp_path: Path
) -> None:
    body = recorded("30")
    content = made_picture("an input")
    file = tmp_path / "any.png"
    file.write_bytes(content)
    end = await driven.run(driven.request(body, inputs={"up.png": str(file)}))
    assert end.outcome == "succeeded"
    [(kind, subfolder, name)] = [key for key, value in comfyui.folders.files.items() if value == content]
    assert (kind, name) == ("input", "up.png")
    assert subfolder.startswith("limner/")
    assert comfyui.ran[0].graph["1"]["inputs"]["image"] == f"{subfolder}/up.png"
    other = tmp_path / "other.png"
    other.write_bytes(made_picture("another input of that name"))
    await driven.run(driven.request(body, inputs={"up.png": str(other)}))
    assert comfyui.ran[1].graph["1"]["inputs"]["image"] != comfyui.ran[0].graph["1"]["inputs"]["image"]
    assert comfyui.folders.files[kind, subfolder, name] == content  # no job reads another's


async def test_outputs_that_nobody_wants_do_not_run(comfyui: Replayer, driven: Driven) -> None:
    graph = recorded("01")["prompt"]
    more = graph | {"9": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
    end = await driven.run(driven.request({"prompt": more}, outputs=["4"]))
    assert end.outcome == "succeeded"
    assert comfyui.ran[0].graph.keys() == graph.keys()


async def test_what_is_submitted_says_whose_it_is(comfyui: Replayer, driven: Driven) -> None:
    body = recorded("01")
    request = driven.request(body)
    await driven.run(request)
    [ran] = comfyui.ran
    assert ran.id == request.job
    assert ran.client not in (None, body["client_id"])
    assert ran.extra_data["limner"] == {
        "job": request.job,
        "token": request.token,
        "worker": "comfyui-test",
        "deployment": "",
    }
    assert ran.extra_data["extra_pnginfo"] == body["extra_data"]["extra_pnginfo"]


@pytest.mark.parametrize("name", ["01", "20", "53", "60"])
async def test_an_old_version_is_driven_all_the_same(tmp_path: Path, name: str) -> None:
    async with Replayer(OLD) as server, driving(server, tmp_path) as driven:
        body, sink = recorded(name), RecordingSink()
        for other in range(2):
            server.play(*(s for s in server.library.scripts if s.prompt_id == body["prompt_id"]))
            end = await driven.run(driven.request(body), sink if not other else RecordingSink())
            entry = history(recording(name), body["prompt_id"])
            assert end.outcome == {"success": "succeeded", "error": "failed"}[entry["status"]["status_str"]]
            assert set(end.outputs) == set(entry["outputs"])
        ours = [each for each in expected(name, body["prompt_id"]) if each[0] != "NodeFinished"]
        assert [each for each in told(sink) if each[0] != "NodeFinished"] == ours
        assert driven.engine.info.version == "0.3.40"


async def test_the_engine_says_what_its_comfyui_is(comfyui: Replayer, driven: Driven) -> None:
    info = driven.engine.info
    assert (info.kind, info.version, info.ready) == ("comfyui", "0.3.64", True)
    assert (info.ram_total, info.ram_free) == (16 << 30, 8 << 30)
    assert [device["type"] for device in info.devices] == ["cpu"]
    assert set(info.catalogue["nodes"]) == set(comfyui.object_info())
    assert info.digest
    assert driven.engine.alive
    assert driven.engine.resumes


async def test_history_is_cleared_of_what_was_accepted_and_of_nothing_else(comfyui: Replayer, driven: Driven) -> None:
    comfyui.memory.history["somebody else's"] = {}
    await driven.run(driven.request(recorded("01")))
    assert len(comfyui.memory.history) == 2
    await driven.engine.accepted()
    async with asyncio.timeout(5):
        while len(comfyui.memory.history) > 1:
            await asyncio.sleep(0.01)
    assert list(comfyui.memory.history) == ["somebody else's"]


async def test_free_reaches_the_instance(comfyui: Replayer, driven: Driven) -> None:
    await driven.engine.free(unload_models=True, free_memory=False)
    assert comfyui.freed == [{"unload_models": True, "free_memory": False}]


async def test_every_prompt_of_a_recording_runs_in_turn(driven: Driven) -> None:
    for body in prompts(recording("55")):
        end = await driven.run(driven.request(body))
        assert end.outcome == "succeeded"
        [texts] = [[ui["text"] for ui in end.outputs.values()]]
        assert texts == [ui["text"] for ui in history(recording("55"), body["prompt_id"])["outputs"].values()]
