"""Which node's call this code is part of."""

from __future__ import annotations

from typing import NamedTuple

from limner.compat.place import here


class ExecutionContext(NamedTuple):
    prompt_id: str
    node_id: str
    list_index: int | None


def get_executing_context() -> ExecutionContext | None:
    ctx = here().running()
    return None if ctx is None else ExecutionContext(ctx.prompt_id, ctx.node.id, ctx.list_index)
