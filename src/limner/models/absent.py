"""absent(): stands for a part that a file does not have, and says so once it is used."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from limner.errors import ModelFileError

T = TypeVar("T")


def absent(kind: type[T], fault: ModelFileError) -> T:
    """Something of this kind whose every member raises the fault: a checkpoint may lack what a workflow never uses."""
    return cast(T, _Absent(kind, fault))


class _Absent:
    def __init__(self, kind: type[Any], fault: ModelFileError) -> None:
        object.__setattr__(self, "_kind", kind)
        object.__setattr__(self, "_fault", fault)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        fault: ModelFileError = object.__getattribute__(self, "_fault")
        raise ModelFileError(fault.message, **fault.details)
