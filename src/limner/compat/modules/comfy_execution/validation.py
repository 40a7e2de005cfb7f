"""Which types may be joined."""

from __future__ import annotations

from typing import Any

from limner.compat.inputs import is_any


def validate_node_input(received_type: Any, input_type: Any, strict: bool = False) -> bool:
    """Whether what is received may feed an input of this type; `strict`: all of it, not a part.

    Types are texts with commas between them, or lists of choices, which join only if they are equal.
    """
    if is_any(received_type) or is_any(input_type) or not received_type != input_type:  # noqa: SIM202
        return True
    if not isinstance(received_type, str) or not isinstance(input_type, str):
        return False
    received = {part.strip() for part in received_type.split(",")}
    wanted = {part.strip() for part in input_type.split(",")}
    if "*" in received or "*" in wanted:
        return True
    return received <= wanted if strict else bool(received & wanted)
