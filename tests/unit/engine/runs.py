"""Runs of toy workflows, with all that they told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from limner.engine.cache import OutputCache
from limner.engine.context import RunContext
from limner.engine.events import Event, NodeRef, NodeStarted, RunResult
from limner.engine.executor import Executor
from limner.graph.validate import validate
from tests.support import toys

CATALOGUE = toys.catalogue()


@dataclass
class Bench:
    """An executor over toy nodes; `events` holds what the last run told."""

    files: toys.ToyFiles = field(default_factory=toys.ToyFiles)
    cache: OutputCache = field(default_factory=OutputCache)
    library: Any = field(default_factory=toys.library)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.executor = Executor(self.library, self.cache)

    def run(
        self,
        workflow: dict[str, Any],
        outputs: tuple[str, ...] | None = None,
        *,
        tenant: str = "default",
        extra_pnginfo: dict[str, Any] | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> RunResult:
        """Runs a workflow; without `outputs` it is validated first, and all its sound outputs are wanted."""
        if outputs is None:
            checked = validate(workflow, CATALOGUE, input_files=["a.png"])
            workflow, outputs = checked.workflow, checked.outputs
        self.ctx = RunContext(
            prompt_id="p",
            tenant=tenant,
            node=NodeRef.plain(""),
            prompt=workflow,
            extra_pnginfo=extra_pnginfo,
            files=self.files,
        )
        self.events = []
        return self.executor.run(
            workflow=workflow, outputs=outputs, ctx=self.ctx, emit=self.events.append, interrupted=interrupted
        )

    @property
    def started(self) -> list[str]:
        return [event.node.id for event in self.events if isinstance(event, NodeStarted)]
