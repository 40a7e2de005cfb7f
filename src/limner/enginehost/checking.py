"""What node classes say of inputs by code of their own, asked while a workflow is submitted and a run may go on."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from limner.engine.accepted import Accepted
from limner.graph.kinds import NodeType

MOST_THREADS = 4
"""Checks that go on at a time: code that never returns keeps its thread."""

Question = Mapping[str, Any]
Answer = Callable[[list[Any]], None]


class Checker:
    """Asks each question on a thread of its own, beside whatever runs."""

    def __init__(self, library: Mapping[str, NodeType], accepted: Accepted) -> None:
        """`accepted` takes note of what classes said yes to: the run that follows need not ask again."""
        self._library = library
        self._accepted = accepted
        self._threads = threading.BoundedSemaphore(MOST_THREADS)

    def ask(self, questions: Sequence[Question], answer: Answer) -> None:
        """Calls `answer` from another thread with a verdict for each question; with none where too many go on."""
        if not self._threads.acquire(blocking=False):
            answer([None] * len(questions))
            return

        def work() -> None:
            try:
                answer([self._verdict(each) for each in questions])
            finally:
                self._threads.release()

        threading.Thread(target=work, name="check", daemon=True).start()

    def _verdict(self, question: Question) -> Any:
        """True, False, a reason, or what was raised; None where that cannot be told here.

        A class that looks at input files can be asked in the run only, which has them.
        """
        kind = self._library.get(question["class"])
        if kind is None or any(kind.spec.input[name].upload for name in question["inputs"] if name in kind.spec.input):
            return None
        try:
            verdict = kind.check(question["inputs"], question["types"])
            if inspect.isawaitable(verdict):
                verdict = asyncio.run(_finished(verdict))
        except BaseException as raised:  # a node's own code may raise anything, SystemExit too
            return {"type": type(raised).__name__, "message": str(raised)}
        if verdict is True:
            self._accepted.add(question["class"], question["inputs"], question["types"])
        return verdict if isinstance(verdict, str) else verdict is True


async def _finished(awaitable: Any) -> Any:
    return await awaitable
