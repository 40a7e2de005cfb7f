"""Names that packs import and Limner has no like of: they can be imported and subclassed, and raise once used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from limner.errors import UnfitInput


def no_class(module: str, name: str) -> type[nn.Module]:
    """A class that says what it stands for when it is instantiated, also by a subclass."""

    def refuse(self: Any, *_: Any, **__: Any) -> None:
        raise UnfitInput(f"Limner has no {module}.{name}, which {type(self).__name__} was made with")

    return type(name, (nn.Module,), {"__init__": refuse, "__module__": module, "__doc__": "Not there in Limner."})


def no_function(module: str, name: str) -> Callable[..., Any]:
    """A function that says what it stands for when it is called."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise UnfitInput(f"Limner has no {module}.{name}")

    refuse.__name__ = refuse.__qualname__ = name
    refuse.__doc__ = "Not there in Limner."
    return refuse


def unoffered(module: str, names: Iterable[str]) -> dict[str, Any]:
    """Each name as such a class, or as such a function where it begins with a small letter."""
    return {
        name: no_class(module, name) if name.lstrip("_")[:1].isupper() else no_function(module, name) for name in names
    }
