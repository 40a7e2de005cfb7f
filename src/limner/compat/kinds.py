"""Classes by which packs ask what something is, where Limner's own class has another name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from limner.errors import UnfitInput


class Kind(type):
    """Classes whose instances are told by a function."""

    stands_for: Callable[[Any], bool]

    def __instancecheck__(cls, instance: object) -> bool:
        told = vars(cls).get("stands_for")
        return bool(told(instance)) if told is not None else super().__instancecheck__(instance)


def of_kind(name: str, own: type, module: str, where: Callable[[Any], bool] = lambda _: True) -> type:
    """A class that instances of Limner's `own` are of, `where` says which. It can be subclassed, but not made."""

    def refuse(self: Any, *_: Any, **__: Any) -> None:
        raise UnfitInput(f"{type(self).__name__} cannot be made as a {module}.{name}: Limner makes these itself")

    members = {
        "stands_for": lambda each: isinstance(each, own) and where(each),
        "__init__": refuse,
        "__module__": module,
        "__doc__": f"Limner's {own.__name__}.",
    }
    return Kind(name, (), members)
