"""What a run looks like at the terminal: the node that works, and a bar for its steps. All of it on standard error."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Display:
    """A context manager. Where standard error is no terminal, it writes one plain line per node."""

    def __init__(self, workflow: dict[str, Any]) -> None:
        self._workflow = workflow
        self._console = Console(stderr=True)
        self._live = sys.stderr.isatty()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._live,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Display:
        self._progress.start()
        if self._live:
            self._show("starting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def node(self, node_id: str) -> None:
        """A node began to work."""
        self._show(self._name(node_id))

    def step(self, value: float, maximum: float) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=value, total=maximum)

    def note(self, text: str) -> None:
        """Something to read, such as a warning."""
        self._console.print(text, markup=False, highlight=False)

    def _name(self, node_id: str) -> str:
        node = self._workflow.get(node_id, {})
        return f"node {node_id}: {node.get('class_type', '')}"

    def _show(self, text: str) -> None:
        if not self._live:
            self.note(text)
            return
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(text, total=None)
