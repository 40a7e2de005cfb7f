"""Makes the names that packs import lead to the files of compat/modules, in this process and until it ends."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from limner.compat import modules
from limner.compat.named import NAMED
from limner.compat.place import Place, settle

HOME = modules.__name__
NAMES = frozenset({
    "comfy", "comfy_api", "comfy_api_nodes", "comfy_config", "comfy_execution", "comfy_extras", "cuda_malloc",
    "execution", "folder_paths", "latent_preview", "node_helpers", "nodes", "protocol", "server",
})  # fmt: skip
"""First parts of ComfyUI's module names that are looked for here and nowhere else. Its `utils` and `app` are not among
them: packs have modules of these names themselves."""

EARLY = ("folder_paths",)
ALWAYS = ("comfy", "comfy.utils", "comfy.model_management", "nodes", "server", "execution")
"""Modules that packs find in sys.modules without having imported them."""


class Lacking(ModuleNotFoundError):
    """ComfyUI has this module, and Limner does not."""


def install(place: Place) -> None:
    """Offers the stand-ins to every `import` from now on. Those that need Limner's nodes can be imported once the place
    has them.
    """
    place.prepare()
    settle(place)
    if not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for name in EARLY:
        importlib.import_module(name)
    sys.modules["folder_paths"].__file__ = str(place.folder / "folder_paths.py")


def complete() -> None:
    """Limner's nodes are there: imports what packs take for imported."""
    for name in ALWAYS:
        importlib.import_module(name)


def lacking(name: str) -> Callable[[str], Any]:
    """The `__getattr__` of a stand-in: imports a module below it, else says what Limner has not."""

    def missing(member: str) -> Any:
        if not member.startswith("__") and (_has(f"{name}.{member}") or f"{name}.{member}" in NAMED):
            return importlib.import_module(f"{name}.{member}")
        raise AttributeError(f"Limner's stand-in for {name} has no {member}", name=member)

    return missing


def told(text: str) -> str:
    """An error's text with the names that packs know."""
    return text.replace(f"{HOME}.", "")


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        first = fullname.partition(".")[0]
        if first not in NAMES:
            return None
        if _has(fullname):
            return ModuleSpec(fullname, _Alias())
        if made := _made(fullname):
            return ModuleSpec(fullname, made, is_package=any(name.startswith(f"{fullname}.") for name in NAMED))
        raise Lacking(f"No module named {fullname!r}: ComfyUI has it, Limner has not", name=fullname)


class _Alias(Loader):
    """Loads a file of compat/modules under its own name, and lends it to the name that was asked for."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(f"{HOME}.{spec.name}")
        vars(module).setdefault("__getattr__", lacking(spec.name))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None and spec.loader_state is not None:
            module.__spec__ = spec.loader_state


class _Made(Loader):
    """A module that consists of node classes alone, or of names that Limner has nothing for."""

    def __init__(self, members: dict[str, Any]) -> None:
        self._members = members

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(self._members)
        vars(module).setdefault("__getattr__", lacking(module.__name__))


def _made(fullname: str) -> _Made | None:
    members: dict[str, Any] = {}
    if fullname in NAMED:
        from limner.compat.unoffered import unoffered

        members |= unoffered(fullname, NAMED[fullname])
    if fullname.startswith("comfy_extras."):
        from limner.compat.core_classes import classes_of

        members |= classes_of(fullname)
    return _Made(members) if members or fullname in NAMED else None


def _has(fullname: str) -> bool:
    try:
        return find_spec(f"{HOME}.{fullname}") is not None
    except ModuleNotFoundError:  # nor is what it would be in
        return False
