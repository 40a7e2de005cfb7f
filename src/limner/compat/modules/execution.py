"""What packs look for in ComfyUI's executor. Limner's own runs workflows otherwise."""

from __future__ import annotations

from typing import Any

from limner.compat.modules.comfy_execution.graph import ExecutionBlocker as ExecutionBlocker
from limner.compat.modules.comfy_execution.validation import validate_node_input as validate_node_input


class PromptExecutor:
    """Packs wrap `execute` to learn of runs, or look at what is running. It is never called here."""

    def __init__(self, server: Any = None, cache_type: Any = None, cache_args: Any = None) -> None:
        self.server = server
        self.success = True
        self.history_result: dict[str, Any] = {}
        self.status_messages: list[Any] = []

    def execute(self, prompt: Any, prompt_id: str, extra_data: Any = None, execute_outputs: Any = ()) -> None:
        raise NotImplementedError(
            "a node pack cannot run a workflow inside of Limner's engine: expand the node instead"
        )


class ExecutionResult:
    SUCCESS = 0
    FAILURE = 1
    PENDING = 2
