"""Refusals and failures, and what they mean for the next attempt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.worker.engines.comfyui.causes import failed, of_exception, refusal
from limner.worker.engines.comfyui.inputs import Prepared
from tests.support.recordings import recording
from tests.support.workflows import json_values

DATA = ("node_id", "node_type", "exception_type", "exception_message", "traceback", "current_inputs", "timestamp")
FAULTS = st.dictionaries(st.sampled_from(["type", "message", "details", "extra_info"]), json_values)
ERRORS = st.fixed_dictionaries({"errors": st.lists(json_values | FAULTS)}, optional={"class_type": json_values})
GRAPH = {"1": {"class_type": "NoSuchNode", "inputs": {}}, "6": {"class_type": "EmptyImage", "inputs": {}}}


def recorded(number: str) -> Iterator[Any]:
    """(note, request, status, body) of every refused POST /prompt."""
    for exchange in recording(number)["exchanges"]:
        request, response = exchange["request"], exchange["response"]
        if request["path"] == "/prompt" and response["status"] >= 400:
            yield pytest.param(request, response, id=f"{number}-{request.get('note', '')}")


def answered(request: dict[str, Any], response: dict[str, Any]) -> Any:
    body = request.get("json")
    graph = body.get("prompt") if isinstance(body, dict) else None
    return refusal(
        response["status"], response.get("json", response.get("text")), graph if isinstance(graph, dict) else {}
    )


@pytest.mark.parametrize(("request_", "response"), [*recorded("10"), *recorded("13")])
def test_every_recorded_refusal_is_told_whole(request_: dict[str, Any], response: dict[str, Any]) -> None:
    run = answered(request_, response)
    body = response.get("json")
    if body is None:  # a broken handler: perhaps not the next time
        assert (run.outcome, run.end["code"], run.end["retryable"]) == ("failed", "dependency_unavailable", True)
        return
    assert run.end["retryable"] is False
    assert run.end["refusal"] == body
    assert run.end["exception_message"].startswith(body["error"]["message"])
    for node, told in body["node_errors"].items():
        for fault in told["errors"]:
            assert f"node {node} ({told['class_type']}): {fault['message']}" in run.end["exception_message"]
            assert fault["details"] in run.end["exception_message"]
    kinds = {fault["type"] for told in body["node_errors"].values() for fault in told["errors"]}
    unfit = kinds == {"value_not_in_list"} or "does not exist" in body["error"]["message"]
    assert run.outcome == ("unfit" if unfit else "failed")
    assert run.end["code"] == ("unfit_worker" if unfit else "workflow_refused")


def test_an_unknown_class_blames_its_node() -> None:
    error = {"type": "invalid_prompt", "message": "Cannot execute because node NoSuchNode does not exist."}
    run = refusal(400, {"error": {**error, "details": "Node ID '#1'", "extra_info": {}}, "node_errors": {}}, GRAPH)
    assert (run.outcome, run.end["node"]["real"], run.end["node_type"]) == ("unfit", "1", "NoSuchNode")


def test_later_versions_word_an_unknown_class_in_another_way() -> None:
    error = {"type": "missing_node_type", "message": "Node 'x' not found.", "extra_info": {"node_id": "1"}}
    run = refusal(400, {"error": error, "node_errors": {}}, GRAPH)
    assert (run.outcome, run.end["node"]["id"]) == ("unfit", "1")


def test_one_other_fault_makes_a_refusal_final() -> None:
    faults = [{"type": "value_not_in_list", "message": "Value not in list", "details": "c: 'x' not in []"}]
    errors: dict[str, Any] = {"6": {"errors": faults, "dependent_outputs": ["1"], "class_type": "EmptyImage"}}
    whole = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation", "details": ""}
    assert refusal(400, {"error": whole, "node_errors": errors}, GRAPH).outcome == "unfit"
    faults.append({"type": "value_smaller_than_min", "message": "Value -5 smaller than min of 1", "details": "width"})
    run = refusal(400, {"error": whole, "node_errors": errors}, GRAPH)
    assert (run.outcome, run.end["code"], run.end["node_type"]) == ("failed", "workflow_refused", "EmptyImage")
    assert run.end["exception_message"].count("\n") == 3


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (500, "500 Internal Server Error\n\nServer got itself in trouble", "got itself in trouble"),
        (
            500,
            b"<html><head><title>x</title><style>p{}</style></head><body><h1>502 &amp; more</h1></body></html>",
            "502 & more",
        ),
        (500, {"error": {"type": "x", "message": "a pack failed"}}, "a pack failed"),
        (502, "", "HTTP 502"),
        (429, None, "HTTP 429"),
        (401, "", "user and password"),
        (404, "<html>no such page</html>", "no such page"),
        (302, "", "HTTP 302"),
        (400, "<html>Bad Request</html>", "Bad Request"),
    ],
)
def test_what_is_no_verdict_on_the_workflow_may_be_tried_again(status: int, body: Any, says: str) -> None:
    run = refusal(status, body, GRAPH)
    assert (run.outcome, run.end["code"], run.end["retryable"]) == ("failed", "dependency_unavailable", True)
    assert says in run.end["exception_message"]
    assert "refusal" not in run.end


def test_a_body_too_large_is_not_tried_again() -> None:
    run = refusal(413, "Maximum request body size 100 exceeded.", GRAPH)
    assert (run.end["code"], run.end["retryable"]) == ("workflow_refused", False)
    assert "--max-upload-size" in run.end["exception_message"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"error": "a mere text", "node_errors": []}, "a mere text\n"),
        ({"error": {"type": "no_prompt"}, "node_errors": None}, "does not say why"),
        ({"error": {"message": "m"}, "node_errors": {"1": {"errors": [None, {"message": "f"}]}, "2": 3}}, "f\n"),
        ({"error": {"message": "m", "details": 7}, "node_errors": {"1": {"errors": "x"}}}, "m"),
    ],
)
def test_answers_of_other_versions_are_refusals_too(body: Any, says: str) -> None:
    run = refusal(400, body, GRAPH)
    assert (run.outcome, run.end["code"]) == ("failed", "workflow_refused")
    assert says in run.end["exception_message"]
    json.dumps(run.end)


def test_callers_read_their_own_file_names_in_a_refusal() -> None:
    details = "image - Invalid image file: limner/abc/cat.png"
    errors = {"1": {"errors": [{"type": "custom_validation_failed", "message": "no", "details": details}]}}
    prepared = Prepared(workflow={}, shown={"limner/abc/cat.png": "cat.png"})
    run = refusal(400, {"error": {"message": "m"}, "node_errors": errors}, GRAPH, restore=prepared.restore)
    assert "Invalid image file: cat.png" in run.end["exception_message"]
    assert "limner/" not in json.dumps(run.end)


CUDA_HINT = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be "
    "incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with `TORCH_USE_CUDA_DSA` to enable "
    "device-side assertions.\n"
)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("torch.OutOfMemoryError", "Allocation on device \n"),
        ("torch.cuda.OutOfMemoryError", "Allocation on device 0 would exceed allowed memory. (out of memory)"),
        ("torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 8"),
        ("torch.OutOfMemoryError", "HIP out of memory. Tried to allocate 6.46 GiB. GPU 0 has a total capacity of 23"),
        ("RuntimeError", "MPS backend out of memory (MPS allocated: 15.72 GiB, other allocations: 2.41 MiB"),
        ("RuntimeError", "Invalid buffer size: 24.00 GiB"),
        ("RuntimeError", f"CUDA error: out of memory{CUDA_HINT}"),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        ("RuntimeError", "NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp:838"),
        ("RuntimeError", "XPU out of memory. Tried to allocate 4.00 GiB"),
        ("RuntimeError", "Native API failed. Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
        ("RuntimeError", "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"),
        ("RuntimeError", "[enforce fail at ..\\alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you"),
        ("RuntimeError", "Could not allocate tensor with 9 bytes. There is not enough GPU video memory available!"),
        ("numpy._core._exceptions._ArrayMemoryError", "Unable to allocate 11.9 GiB for an array with shape (1,)"),
        ("MemoryError", "\n"),
        ("OSError", "[Errno 12] Cannot allocate memory"),
        ("OSError", "The paging file is too small for this operation to complete. (os error 1455)"),
        ("onnxruntime.capi.RuntimeException", "Failed to allocate memory for requested buffer of size 1073741824"),
    ],
)
def test_no_memory_left_is_known_by_all_its_names(kind: str, message: str) -> None:
    cause = of_exception({"exception_type": kind, "exception_message": message})
    assert (cause.code, cause.retryable, cause.sick, cause.unfit) == ("out_of_memory", True, False, False)


@pytest.mark.parametrize(
    "message",
    [
        f"CUDA error: an illegal memory access was encountered{CUDA_HINT}",
        f"CUDA error: device-side assert triggered{CUDA_HINT}",
        f"CUDA error: unspecified launch failure{CUDA_HINT}",
        "CUDA error: misaligned address",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb)`",
        "CUDA error: CUBLAS_STATUS_INTERNAL_ERROR when calling `cublasGemmEx`",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        "HIP error: an illegal memory access was encountered",
        "HIP error: unspecified launch failure",
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: the launch timed out and was terminated",
        "CUDA error: unknown error",
        "No CUDA GPUs are available",
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        "miopenStatusInternalError",
        "Native API failed. Native API returns: 20 (UR_RESULT_ERROR_DEVICE_LOST)",
        "The GPU device instance has been suspended. Use GetDeviceRemovedReason to determine the appropriate action.",
    ],
)
def test_a_lost_gpu_makes_the_instance_sick(message: str) -> None:
    cause = of_exception({"exception_type": "RuntimeError", "exception_message": message})
    assert (cause.code, cause.retryable, cause.sick) == ("worker_lost", True, True)


@pytest.mark.parametrize(
    "message",
    [
        "[Errno 28] No space left on device: '/data/output/a.png'",
        "[WinError 112] There is not enough space on the disk",
        "[Errno 122] Disk quota exceeded",
        'Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })',
        "[enforce fail at inline_container.cc:595] . PytorchStreamWriter failed writing file data/0: file write failed",
        "An error occurred in the ffmpeg subprocess: av_interleaved_write_frame(): No space left on device",
    ],
)
def test_a_full_disk_is_worth_another_attempt(message: str) -> None:
    cause = of_exception({"exception_type": "OSError", "exception_message": message})
    assert (cause.code, cause.retryable, cause.sick, cause.unfit) == ("disk_full", True, False, False)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("FileNotFoundError", "Model in folder 'checkpoints' with filename 'sub\\sd_xl.safetensors' not found."),
        ("FileNotFoundError", "[Errno 2] No such file or directory: '/models/unet/a.gguf'"),
        (
            "FileNotFoundError",
            'No such file or directory: "C:\\\\ComfyUI\\\\models\\\\LLM\\\\a-00001-of-2.safetensors"',
        ),
        ("OSError", "Error no file named model.safetensors found in directory /models/x."),
        ("OSError", "/models/clip does not appear to have a file named config.json."),
        ("Exception", "upscale model 4x.pth not found in models/upscale_models"),
    ],
)
def test_a_missing_model_may_be_on_another_worker(kind: str, message: str) -> None:
    run = failed({"node_id": "4", "exception_type": kind, "exception_message": message})
    assert (run.outcome, run.end["code"], run.end["retryable"]) == ("unfit", "unfit_worker", False)


def test_a_loader_without_a_path_misses_its_model() -> None:
    said = "'NoneType' object has no attribute 'lower'"
    traceback = ['File "/comfy/utils.py", line 30, in load_torch_file\n']
    data = {"exception_type": "AttributeError", "exception_message": said, "traceback": traceback}
    assert of_exception(data).unfit
    assert of_exception({**data, "traceback": ['File "/nodes.py", line 3, in encode\n']}).code == "node_error"


@pytest.mark.parametrize(
    "message",
    [
        "Error while deserializing header: MetadataIncompleteBuffer",
        "Error while deserializing header: HeaderTooLarge",
        "PytorchStreamReader failed reading zip archive: failed finding central directory",
        "invalid load key, '<'.",
    ],
)
def test_a_broken_model_file_may_be_whole_on_another_worker(message: str) -> None:
    run = failed({"exception_type": "RuntimeError", "exception_message": message})
    assert (run.outcome, run.end["code"]) == ("unfit", "model_file")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("ValueError", "boom\n"),
        ("RuntimeError", f"CUDA error: no kernel image is available for execution on the device{CUDA_HINT}"),
        ("RuntimeError", f"CUDA error: invalid argument{CUDA_HINT}"),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmul`"),
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (77x768 and 2048x640)"),
        ("FileNotFoundError", "[Errno 2] No such file or directory: '/home/me/prompts.txt'"),
        ("KeyError", "'samples'"),
        ("Exception", "Polling failed: 429 RESOURCE_EXHAUSTED, the quota of your key is used up"),
        ("ValueError", "doesn't exist " * 100_000),
    ],
)
def test_other_exceptions_are_the_workflows_own(kind: str, message: str) -> None:
    run = failed({"exception_type": kind, "exception_message": message})
    assert (run.outcome, run.end["code"], run.end["retryable"]) == ("failed", "node_error", False)


def test_the_recorded_failures_are_the_workflows_own() -> None:
    for number in ("20", "58"):
        for socket in recording(number)["websockets"]:
            for event in socket["events"]:
                if event.get("type") == "execution_error":
                    assert of_exception(event["data"]).code == "node_error"


def test_odd_and_huge_data_still_make_an_end_that_can_be_kept() -> None:
    run = failed(
        {
            "node_id": 7,
            "exception_type": None,
            "exception_message": "x" * 100_000,
            "traceback": ["line"] * 500,
            "current_inputs": {"image": ["y" * 100_000, float("nan"), 3], "odd": "\udcff"},
            "timestamp": float("inf"),
            "current_outputs": "none",
            "executed": [1, "2"],
        }
    )
    assert (run.end["node"]["real"], run.end["executed"], run.end["current_outputs"]) == ("7", ["1", "2"], [])
    assert len(run.end["traceback"]) == 100
    assert run.end["current_inputs"]["image"][1:] == [None, 3]
    assert len(json.dumps(run.end, allow_nan=False, ensure_ascii=False).encode()) < 50_000


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([200, 400, 404, 413, 500]),
    json_values
    | st.fixed_dictionaries(
        {"error": json_values},
        optional={"node_errors": st.dictionaries(st.sampled_from(["1", "6", "x"]), json_values | ERRORS)},
    ),
)
def test_whatever_an_answer_holds_it_is_some_end_that_can_be_kept(status: int, body: Any) -> None:
    run = refusal(status, body, GRAPH)
    assert run.outcome in ("failed", "unfit")
    assert run.end["exception_message"].strip()
    json.dumps(run.end, allow_nan=False, ensure_ascii=False).encode()


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(DATA), json_values))
def test_whatever_a_failure_holds_it_is_some_end_that_can_be_kept(data: dict[str, Any]) -> None:
    run = failed(data)
    json.dumps(run.end, allow_nan=False, ensure_ascii=False).encode()
