"""Why a prompt was refused, or failed, in the words that the retry rules know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import unescape
from typing import Any

from limner.engine.events import NodeRef
from limner.errors import (
    DiskFull,
    LimnerError,
    ModelFileError,
    OutOfMemory,
    RunError,
    Unavailable,
    UnfitWorker,
    WorkflowRefused,
)
from limner.worker.engines.comfyui.values import sound
from limner.worker.engines.port import EngineLost, RunEnded

LONGEST_TEXT = 10_000
MOST_LINES = 100
SHOWN_OF_A_PAGE = 300

MODEL_FILE = r"\.(safetensors|sft|ckpt|pt2?|pth|bin|gguf|onnx|engine|pkl|t7|msgpack)\b"

OUT_OF_MEMORY = re.compile(
    r"""out[ _]of[ _](device[ _]|gpu[ _]|video[ _]|host[ _])?memory | \bOutOfMemoryError\b | \b_?(Array)?MemoryError\b
    | Allocation[ ]on[ ]device | would[ ]exceed[ ]allowed[ ]memory | NVML_SUCCESS[ ]==[ ]r[ ]INTERNAL[ ]ASSERT
    | _STATUS_ALLOC_FAILED | _STATUS_INTERNAL_ERROR_(DEVICE|HOST)_ALLOCATION_FAILED | (cuda|hip)ErrorMemoryAllocation
    | HSA_STATUS_ERROR_OUT_OF_RESOURCES | UR_RESULT_ERROR_OUT_OF_RESOURCES
    | DefaultCPUAllocator | not[ ]enough[ ](GPU[ ]video[ ])?memory | insufficient[ ]memory | Cannot[ ]allocate[ ]memory
    | Invalid[ ]buffer[ ]size | Failed[ ]to[ ]allocate[ ]memory | Unable[ ]to[ ]allocate[ ][\d.]+[ ][KMGT]iB
    | paging[ ]file[ ]is[ ]too[ ]small""",
    re.IGNORECASE | re.VERBOSE,
)
"""Of torch on CUDA, ROCm, MPS, XPU, DirectML and CPUs, of numpy, ONNX and of the operating systems."""

SICK = re.compile(
    r"""illegal[ ](memory[ ]access|address|instruction)[ ]was | illegal[ ]memory[ ]access | device-side[ ]assert[ ]trig
    | unspecified[ ]launch[ ]failure | misaligned[ ]address | uncorrectable[ ]ECC | hardware[ ]stack[ ]error
    | launch[ ]timed[ ]out[ ]and[ ]was | (CUDA|HIP)[ ](driver[ ])?error:[ ](unknown|initialization|driver[ ]shutting)
    | CUDA[ ]unknown[ ]error | context[ ]is[ ]destroyed | No[ ](CUDA|HIP)[ ]GPUs[ ]are[ ]available
    | no[ ](CUDA|ROCm)-capable[ ]device | device\(s\)[ ]is/are[ ]busy | fallen[ ]off[ ]the[ ]bus | GPU[ ]is[ ]lost
    | _STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|NOT_INITIALIZED|MAPPING_ERROR) | miopenStatus(Internal|Unknown)Error
    | (cuda|hip)Error(IllegalAddress|LaunchFailure|Assert|EccUncorrectable|Unknown) | HSA_STATUS_ERROR
    | DEVICE_(LOST|REMOVED|HUNG) | GPU[ ]device[ ]instance[ ]has[ ]been[ ]suspended | kIOGPUCommandBufferCallback""",
    re.IGNORECASE | re.VERBOSE,
)
"""Faults after which the process cannot use its GPU any more, whatever it is asked to run next.

Every CUDA error ends with a hint about "device-side assertions", also those that do no lasting harm.
"""

DISK_FULL = re.compile(
    r"""No[ ]space[ ]left | Errno[ ]28\b | \bENOSPC\b | not[ ]enough[ ]space[ ]on[ ]the[ ]disk | WinError[ ]112\b
    | Disk[ ]quota[ ]exceeded | disk[ ]is[ ]full | PytorchStreamWriter[ ]failed[ ]writing""",
    re.IGNORECASE | re.VERBOSE,
)

MODEL_IS_MISSING = re.compile(
    rf"""Model[ ]in[ ]folder[ ].*[ ]not[ ]found | no[ ]file[ ]named[ ] | have[ ]a[ ]file[ ]named[ ]
    | is[ ]not[ ]a[ ]valid[ ]model[ ]identifier | (No[ ]such[ ]file|cannot[ ]find[ ]the[ ](file|path)).*{MODEL_FILE}
    | {MODEL_FILE}.*(not[ ]found|does[ ]not[ ]exist|doesn't[ ]exist)
    | (not[ ]found|does[ ]not[ ]exist|doesn't[ ]exist).*{MODEL_FILE}""",
    re.IGNORECASE | re.VERBOSE,
)
NO_PATH = re.compile(r"'NoneType' object has no attribute '(lower|endswith)'|os\.PathLike object, not NoneType")
"""What loaders raise for a model that no folder holds, where they go on without a path."""

MODEL_IS_BROKEN = re.compile(
    r"Error while deserializing header|MetadataIncompleteBuffer|InvalidHeaderDeserialization|HeaderTooLarge"
    r"|PytorchStreamReader failed|unexpected EOF, expected|invalid load key|file not fully covered",
    re.IGNORECASE,
)

NOT_IN_LIST = "value_not_in_list"
UNKNOWN_CLASS = re.compile(r"\bnode .+ does not exist", re.IGNORECASE | re.DOTALL)
BLAMED_NODE = re.compile(r"Node ID '#(?P<id>.*)'", re.DOTALL)

NODE_ERROR = "node_error"
"""An exception of a node like any other: the same inputs would raise it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What a fault means for the next attempt.

    `unfit`: another worker may have what is missing here. `sick`: this one can run nothing until it is restarted.
    """

    code: str
    retryable: bool
    unfit: bool = False
    sick: bool = False


def of_exception(data: Mapping[str, Any]) -> Cause:
    """The cause of a failed run, from the data of `execution_error`; empty data tells none."""
    kind, message = (_cut(data.get(name) or "") for name in ("exception_type", "exception_message"))
    if OUT_OF_MEMORY.search(f"{kind}: {message}"):
        return Cause(code=OutOfMemory.code, retryable=True)
    if SICK.search(message):
        return Cause(code=EngineLost.code, retryable=True, sick=True)
    if DISK_FULL.search(message):
        return Cause(code=DiskFull.code, retryable=True)
    if MODEL_IS_BROKEN.search(message):
        return Cause(code=ModelFileError.code, retryable=False, unfit=True)
    if MODEL_IS_MISSING.search(message) or (NO_PATH.search(message) and _was_loading(data)):
        return Cause(code=UnfitWorker.code, retryable=False, unfit=True)
    return Cause(code=NODE_ERROR if kind or message else RunError.code, retryable=False)


def failed(
    data: Mapping[str, Any],
    *,
    outputs: dict[str, Any] | None = None,
    meta: dict[str, Any] | None = None,
    files: list[dict[str, str]] | None = None,
    models: Sequence[str] = (),
) -> RunEnded:
    """The end of a run that failed, from the data of `execution_error`; `data` may be empty, where nobody told why."""
    data = sound(dict(data))
    cause = of_exception(data)
    end: dict[str, Any] = {
        **when(data),
        "node": node_ref(str(data.get("node_id") or "")),
        "node_type": str(data.get("node_type") or ""),
        "exception_type": _cut(data.get("exception_type") or "Exception"),
        "exception_message": _cut(data.get("exception_message") or "ComfyUI says that it failed, and not why.\n"),
        "traceback": texts(data.get("traceback")),
        "current_inputs": _inputs(data.get("current_inputs")),
        "current_outputs": texts(data.get("current_outputs"), most=None),
        "executed": texts(data.get("executed"), most=None),
        "code": cause.code,
        "retryable": cause.retryable,
    }
    return RunEnded(
        outcome="unfit" if cause.unfit else "failed",
        end=end,
        outputs=outputs or {},
        meta=meta or {},
        files=files or [],
        models=list(models),
    )


def refusal(
    status: int, body: Any, workflow: Mapping[str, Any], *, restore: Callable[[Any], Any] = lambda told: told
) -> RunEnded:
    """The end of a run whose workflow was not accepted.

    status, body: of the answer to POST /prompt; the body as JSON, or as text where it is none. workflow: the graph as
    sent. `restore` puts the caller's own file names back into what was told.
    """
    told = restore(sound(body))
    error = _error_of(told)
    if error is None or status != 400:  # of a proxy, of a broken handler, of a login
        kind = WorkflowRefused if status == 413 else Unavailable
        return _refused(kind, _in_words(status, told, error))
    node_errors = _node_errors_of(told)
    unfit = _is_unknown_class(error) or {str(fault.get("type")) for fault in faults_of(node_errors)} == {NOT_IN_LIST}
    node = next(iter(node_errors), "") or _blamed(error)
    class_type = _object(workflow.get(node)).get("class_type")
    return _refused(
        UnfitWorker if unfit else WorkflowRefused,
        _all_faults(error, node_errors),
        node=node if class_type else "",
        node_type=str(class_type or ""),
        refusal={"error": error, "node_errors": node_errors},
    )


def node_ref(node: str) -> dict[str, Any]:
    """The node as events name it."""
    return asdict(NodeRef.plain(node))


def when(data: Mapping[str, Any]) -> dict[str, Any]:
    """The time at which a message says that the run ended, in milliseconds; empty where it says none."""
    timestamp = data.get("timestamp")
    return {"timestamp_ms": int(timestamp)} if isinstance(timestamp, int | float) else {}


def texts(value: Any, *, most: int | None = MOST_LINES) -> list[str]:
    """A list of short texts, whatever was told; of a longer one the last `most`."""
    lines = [_cut(line) for line in value] if isinstance(value, list) else []
    return lines if most is None else lines[-most:]


def _refused(
    kind: type[LimnerError], message: str, *, node: str = "", node_type: str = "", refusal: dict[str, Any] | None = None
) -> RunEnded:
    end: dict[str, Any] = {
        "node": node_ref(node),
        "node_type": node_type,
        "exception_type": kind.__name__,
        "exception_message": f"{message}\n",
        "traceback": [],
        "current_inputs": {},
        "current_outputs": [],
        "executed": [],
        "code": kind.code,
        "retryable": kind.retryable,
    }
    if refusal is not None:
        end["refusal"] = refusal
    return RunEnded(outcome="unfit" if kind is UnfitWorker else "failed", end=end)


def _in_words(status: int, body: Any, error: dict[str, Any] | None) -> str:
    """What an answer says that is no verdict on the workflow."""
    if status == 413:
        return "ComfyUI takes no workflow of this size: start it with a larger --max-upload-size."
    if status in (401, 403, 407):
        return f"ComfyUI, or a proxy before it, does not let this worker in (HTTP {status}): check user and password."
    said = str(error.get("message") or "") if error else page_text(body)
    return f"ComfyUI did not take the workflow: HTTP {status}{f', {said}' if said else ''}"


def page_text(body: Any) -> str:
    """The words of an error page, in one short line."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body if isinstance(body, str) else ""
    text = re.sub(r"(?is)<(script|style|head)\b.*?</\1>|<[^>]*>", " ", text)
    return " ".join(unescape(text).split())[:SHOWN_OF_A_PAGE]


def _error_of(body: Any) -> dict[str, Any] | None:
    """The `error` of an answer; some versions and packs tell a mere text. None: this is no answer of ComfyUI's."""
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str) and error:
        return {"type": "refused", "message": error, "details": "", "extra_info": {}}
    return error if isinstance(error, dict) else None


def _node_errors_of(body: dict[str, Any]) -> dict[str, Any]:
    """Node id -> its errors. Some versions tell an empty list where there are none."""
    return {node: told for node, told in _object(body.get("node_errors")).items() if isinstance(told, dict)}


def faults_of(node_errors: Any) -> Iterator[dict[str, Any]]:
    """The single errors in an answer's `node_errors`, whatever it is."""
    for told in _object(node_errors).values():
        faults = _object(told).get("errors")
        yield from (fault for fault in (faults if isinstance(faults, list) else []) if isinstance(fault, dict))


def _is_unknown_class(error: Mapping[str, Any]) -> bool:
    kind, message = error.get("type"), str(error.get("message") or "")
    return kind == "missing_node_type" or (kind == "invalid_prompt" and UNKNOWN_CLASS.search(message) is not None)


def _blamed(error: Mapping[str, Any]) -> str:
    """The node that an error of the whole workflow is about."""
    told = _object(error.get("extra_info")).get("node_id")
    named = BLAMED_NODE.search(str(error.get("details") or ""))
    return str(told) if told is not None else named["id"] if named else ""


def _all_faults(error: Mapping[str, Any], node_errors: Mapping[str, Any]) -> str:
    """Every fault, a line each: what is wrong with the whole, then with each node."""
    lines = [_line(error) if not node_errors else str(error.get("message") or "")]
    for node, told in node_errors.items():
        where = f"node {node} ({told.get('class_type') or 'unknown class'})"
        lines += [f"{where}: {_line(fault)}" for fault in faults_of({node: told})]
    return _cut("\n".join(line for line in lines if line) or "ComfyUI refused the workflow, and does not say why.")


def _line(fault: Mapping[str, Any]) -> str:
    message, details = str(fault.get("message") or ""), str(fault.get("details") or "")
    return f"{message}: {details}" if message and details and details != message else message or details


def _was_loading(data: Mapping[str, Any]) -> bool:
    return any("load" in line.lower() for line in texts(data.get("traceback"))[-3:])


def _inputs(value: Any) -> dict[str, Any]:
    """A node's inputs as told: lists of plain values, long texts cut."""
    return {
        name: [_cut(item) if isinstance(item, str) else item for item in items] if isinstance(items, list) else items
        for name, items in _object(value).items()
    }


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _cut(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."
