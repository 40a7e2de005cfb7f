"""Packs of custom nodes: found in their folders, loaded one by one, each fault told and none of them everybody's."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from limner.compat import nodes_of
from limner.compat.pack import PACKAGE, Found, Pack, explain, publish
from limner.compat.web import web_folders
from limner.graph.folders import Folders

PRESTARTUP = "prestartup_script.py"
IMPORT_SECONDS = 120.0
"""How long one pack may take to be imported: some install what they lack."""


class TooSlow(BaseException):
    """Raised inside a pack whose import does not end. No Exception: a pack may catch all of these and go on."""


def find(folders: Sequence[Path]) -> list[Found]:
    """Every folder and `.py` file, by name; not hidden ones, `__pycache__`, and names that end in `.disabled`."""
    found = []
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name.startswith((".", "__pycache__")) or path.name.endswith(".disabled"):
                continue
            if path.is_dir() or path.suffix == ".py":
                found.append(Found(name=path.name if path.is_dir() else path.stem, path=path.absolute()))
    return found


def prestart(found: Sequence[Found]) -> dict[str, str]:
    """Runs each pack's `prestartup_script.py`, before torch is there. Gives the faults by pack."""
    faults = {}
    for each in found:
        script = each.path / PRESTARTUP
        if script.is_file():
            _, fault = _guarded(lambda module=f"{each.module}.prestartup_script", path=script: _run(module, path))  # type: ignore[misc]
            if fault:
                faults[each.name] = f"{PRESTARTUP}: {fault}"
    return faults


def load(found: Sequence[Found], *, core: Collection[str], folders: Folders) -> list[Pack]:
    """Imports the packs, in order. Names of Limner's own nodes stay its own; between packs the last one wins."""
    _offer_package([each.path.parent for each in found])
    packs = []
    for each in found:
        began = time.monotonic()
        pack = _load_one(each, core, folders)
        pack.seconds = time.monotonic() - began
        packs.append(pack)
    return packs


def _load_one(found: Found, core: Collection[str], folders: Folders) -> Pack:
    pack = Pack(name=found.name, path=found.path)
    start = found.path / "__init__.py" if found.path.is_dir() else found.path
    if not start.is_file():
        pack.fault = "it has no __init__.py"
        return pack
    module, pack.fault = _guarded(lambda: _run(found.module, start))
    if module is None:
        _forget(found.module)
        return pack
    _, pack.fault = _guarded(lambda: nodes_of.read(module, pack, f"{PACKAGE}.{found.name}", core, folders))
    if not pack.fault:
        pack.web = web_folders(module, found)
        publish(pack)
    return pack


def _guarded(act: Callable[[], Any]) -> tuple[Any, str]:
    """(what it gives, "") or (None, why it failed). Pack code may raise, exit, print, or never come back."""
    try:
        with _limited(IMPORT_SECONDS):
            return act(), ""
    except KeyboardInterrupt:
        raise
    except TooSlow:
        return None, f"it was not imported after {IMPORT_SECONDS:g} s"
    except SystemExit as error:
        return None, f"it wanted to end the process (SystemExit: {error.code})"
    except BaseException as error:
        traceback.print_exc()
        return None, explain(error)


def _run(name: str, path: Path) -> ModuleType:
    """Imports a file under this name; its folder is a package, so that relative imports find their way."""
    places = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=places)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _forget(name: str) -> None:
    for each in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
        del sys.modules[each]


def _offer_package(folders: Sequence[Path]) -> None:
    """`custom_nodes` itself: packs import each other through it."""
    package = sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE))
    package.__path__ = list(dict.fromkeys(map(str, folders)))


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises TooSlow in here after this time. Only the main thread can be interrupted so."""
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        yield
        return

    def too_slow(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, too_slow)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
