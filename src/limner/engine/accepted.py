"""Inputs that a class's own code has accepted already, when the workflow was submitted: a run need not ask again."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

MOST = 10_000
"""So many answers wait for their runs; beyond, the oldest is forgotten, and its run asks again."""


class Accepted:
    """Each answer serves one node of one run. Several threads may use it."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, class_type: str, inputs: Mapping[str, Any], types: Mapping[str, Any]) -> None:
        """The class said yes to these inputs (null for linked ones) and types of what is linked."""
        question = _text(class_type, inputs, types)
        if question is None:
            return
        with self._lock:
            self._waiting[question] = self._waiting.pop(question, 0) + 1
            while len(self._waiting) > MOST:
                self._waiting.popitem(last=False)

    def take(self, class_type: str, inputs: Mapping[str, Any], types: Mapping[str, Any]) -> bool:
        """Whether it did, and nobody has relied on that answer yet."""
        question = _text(class_type, inputs, types)
        with self._lock:
            count = self._waiting.pop(question, 0) if question is not None else 0
            if question is not None and count > 1:
                self._waiting[question] = count - 1
        return count > 0


def _text(class_type: str, inputs: Mapping[str, Any], types: Mapping[str, Any]) -> str | None:
    try:
        return json.dumps([class_type, inputs, types], sort_keys=True)
    except (TypeError, ValueError):
        return None
