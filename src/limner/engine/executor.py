"""Runs workflows: only what the wanted outputs need, and nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from limner.engine.accepted import Accepted
from limner.engine.cache import OutputCache
from limner.engine.context import RunContext
from limner.engine.events import RunResult
from limner.engine.kept import KeptObjects
from limner.engine.run import Emit, Run
from limner.engine.scene import Tools
from limner.graph.keys import FileMark
from limner.graph.kinds import NodeType
from limner.graph.workflow import Workflow


class Executor:
    """Runs workflows with the nodes of a library, one after the other, and keeps their results in a cache.

    `file_mark` tells a model file's state, so that no result outlives the file that it was made with. Who lets classes
    check inputs before a run notes in `accepted` what they said yes to; the rest is asked when the run begins.
    """

    def __init__(
        self, library: Mapping[str, NodeType], cache: OutputCache, *, file_mark: FileMark | None = None
    ) -> None:
        self.library = library
        self.cache = cache
        specs = {name: kind.spec for name, kind in library.items()}
        self.accepted = Accepted()
        self._tools = Tools(library, specs, cache, KeptObjects(), self.accepted, file_mark)
        self._made_for: tuple[str, list[str]] = ("", [])

    def run(
        self,
        *,
        workflow: dict[str, Any],
        outputs: Sequence[str],
        ctx: RunContext,
        emit: Emit,
        interrupted: Callable[[], bool],
    ) -> RunResult:
        """Runs a validated workflow to its end, here and now; what happens is told through `emit`.

        `ctx` is the context that nodes get, one for each call; its on_event and check are set here.
        `interrupted` is asked before each call and at each progress call. Whatever a node raises becomes a RunFailed,
        but for Ctrl-C, which passes. Raises WorkflowInvalid where `workflow` is no graph of nodes.
        """
        run = Run(self._tools, Workflow.parse(workflow), ctx, emit, interrupted)
        try:
            return run.go(outputs)
        finally:
            self._made_for = (ctx.tenant, run.files_made_by)
            run.let_go()

    def retract(self) -> None:
        """Takes the last run's output nodes out of the cache: its end was refused, so its files will not be kept."""
        tenant, keys = self._made_for
        self.cache.drop(tenant, keys)

    def forget(self) -> None:
        """Drops all results and all objects of nodes."""
        self.cache.clear()
        self._tools.objects.clear()
