"""Every error that Limner raises on purpose.

LimnerError                   code            status   who sees it
├── Invalid                   invalid_input      422   the caller's input is wrong; says all faults at once
│   ├── WorkflowInvalid       invalid_workflow   422   a graph with faults (carries ComfyUI's node errors)
│   ├── WorkflowIsEditorFormat workflow_is_ui_format 422  the editor's save format instead of the API format
│   ├── MalformedJson         malformed_json     400   the body is not JSON
│   ├── PayloadTooLarge       payload_too_large  413
│   ├── BadName               invalid_input      400   a file name or folder that leaves its place
│   └── BadImage              invalid_input      422   bytes that are no picture, or one too large to open
├── NotFound                  not_found          404
├── Conflict                  conflict           409   the thing is in another state than asked for
├── Unavailable               dependency_unavailable 503  try again: database, NATS, storage, no worker
├── Misconfigured             misconfigured      500   settings or machine: says what to change (CLI exit code 2)
└── RunError                  run_failed         500   what went wrong inside a run; becomes the job's `error`
    ├── Interrupted           interrupted             the run was asked to stop
    ├── ModelFileError        model_file              a checkpoint that is absent, cut short, pickled or unknown
    ├── UnfitInput            unfit_input             inputs that do not go together, as only the run could tell
    ├── WorkflowRefused       workflow_refused        the engine itself found faults that the gateway could not see
    ├── UnfitWorker           unfit_worker            this worker has not the node or the model; another may
    ├── DiskFull              disk_full               the engine's machine has no room for files left
    └── OutOfMemory           out_of_memory
        └── TooLarge          out_of_memory           more than the machine has at all: no attempt can do better
"""

from __future__ import annotations

from typing import Any, ClassVar


class LimnerError(Exception):
    """Base of all. `code`, `status` and `retryable` come from the class, so that no route translates by hand."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class Invalid(LimnerError):
    """What the caller sent is wrong; sending it again will not help."""

    code = "invalid_input"
    status = 422


class WorkflowInvalid(Invalid):
    """A workflow with faults. `kind`, `title`, `fault_details` and `node_errors` are worded as in ComfyUI's answers.

    `message` is for people: the same words, or `hint` where ComfyUI's say too little.
    """

    code = "invalid_workflow"

    def __init__(
        self,
        kind: str,
        message: str,
        fault_details: str = "",
        node_errors: dict[str, Any] | None = None,
        *,
        hint: str = "",
    ) -> None:
        super().__init__(hint or (f"{message}: {fault_details}" if fault_details else message))
        self.kind = kind
        self.title = message
        self.fault_details = fault_details
        self.node_errors: dict[str, Any] = node_errors or {}


class WorkflowIsEditorFormat(WorkflowInvalid):
    """The editor's save format was sent where the API format is wanted."""

    code = "workflow_is_ui_format"


class MalformedJson(Invalid):
    """The body is not JSON, or not the JSON that is wanted (an object)."""

    code = "malformed_json"
    status = 400


class PayloadTooLarge(Invalid):
    """A body or a file over its size limit."""

    code = "payload_too_large"
    status = 413


class BadName(Invalid):
    """A file name or folder that is empty, absolute or leaves its place."""

    status = 400


class BadImage(Invalid):
    """Bytes that are no picture, are cut short, or would need too much memory to open."""


class NotFound(LimnerError):
    """There is no such thing for this caller."""

    code = "not_found"
    status = 404


class Conflict(LimnerError):
    """The thing is in another state than the request needs."""

    code = "conflict"
    status = 409


class Unavailable(LimnerError):
    """Something Limner stands on does not answer now. Asking again later may help."""

    code = "dependency_unavailable"
    status = 503
    retryable = True


class Misconfigured(LimnerError):
    """A setting or the machine does not allow it. The message says what to change."""

    code = "misconfigured"


class RunError(LimnerError):
    """What went wrong inside a run. It becomes the job's error, not an HTTP fault."""

    code = "run_failed"


class Interrupted(RunError):
    """The run was asked to stop, and did. A node may also raise it to stop the run itself."""

    code = "interrupted"

    def __init__(self, message: str = "the run was asked to stop", **details: Any) -> None:
        super().__init__(message, **details)


class ModelFileError(RunError):
    """A model file that is absent, cut short, pickled, or of an unknown architecture."""

    code = "model_file"


class UnfitInput(RunError):
    """A node got a value it cannot work with, such as a latent of another family; only the run could tell."""

    code = "unfit_input"


class OutOfMemory(RunError):
    """The device had no memory left, also after everything unused was freed."""

    code = "out_of_memory"
    retryable = True


class TooLarge(OutOfMemory):
    """A value would need more memory than the machine has, found before any was taken: the workflow's own fault."""

    retryable = False


class WorkflowRefused(RunError):
    """An engine refused the workflow. `details` holds its answer: `error` and `node_errors`, as ComfyUI words them."""

    code = "workflow_refused"


class UnfitWorker(RunError):
    """The worker's engine lacks a node class or a model that the job names. Another worker of the pool may have it."""

    code = "unfit_worker"


class DiskFull(RunError):
    """The engine's machine has no room for files left. Another attempt, elsewhere or later, may do better."""

    code = "disk_full"
    retryable = True
