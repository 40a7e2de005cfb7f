"""What node classes are to be asked of a workflow's inputs, and the verdicts put where they belong."""

from __future__ import annotations

import json
from typing import Any

from limner.graph.walk import CustomCheck


class Questions:
    """Collects the questions of one look at a workflow."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def ask(self, class_name: str, inputs: dict[str, Any], types: dict[str, Any]) -> bool:
        """Takes it down; for now all is well."""
        self.asked.append({"class": class_name, "inputs": inputs, "types": types})
        return True

    def answered(self, verdicts: list[Any]) -> CustomCheck:
        """Answers the same questions. One that nobody answered is left to the run."""
        found = {_key(question): verdict for question, verdict in zip(self.asked, verdicts, strict=True)}

        def answer(class_name: str, inputs: dict[str, Any], types: dict[str, Any]) -> bool | str:
            verdict = found.get(_key({"class": class_name, "inputs": inputs, "types": types}))
            if isinstance(verdict, dict):
                raise type(str(verdict.get("type")), (Exception,), {})(str(verdict.get("message")))
            return verdict if isinstance(verdict, str) else verdict is not False

        return answer


def _key(question: dict[str, Any]) -> str:
    return json.dumps(question, sort_keys=True, default=str)
