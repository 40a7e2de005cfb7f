"""What a node changes for the whole process lasts until the end of its run: the next one finds things as they were."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """What runs share of the process, as it is before one of them."""

    dtype: torch.dtype
    device: torch.device
    grad: bool
    threads: int
    deterministic: int
    folder: str
    recursion: int
    warning_filters: tuple[Any, ...]
    streams: tuple[Any, Any]
    variables: dict[str, str]

    @classmethod
    def now(cls) -> _Standing:
        return cls(
            dtype=torch.get_default_dtype(),
            device=torch.get_default_device(),
            grad=torch.is_grad_enabled(),
            threads=torch.get_num_threads(),
            deterministic=torch.get_deterministic_debug_mode(),
            folder=str(Path.cwd()),
            recursion=sys.getrecursionlimit(),
            warning_filters=tuple(warnings.filters),
            streams=(sys.stdout, sys.stderr),
            variables=dict(os.environ),
        )

    def restore(self) -> None:
        sys.settrace(None)
        sys.setrecursionlimit(self.recursion)
        if torch.get_default_device() != self.device:
            torch.set_default_device(None)  # an engine has none: its own code names the device everywhere
        torch.set_default_dtype(self.dtype)
        torch.set_grad_enabled(self.grad)
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        if torch.get_deterministic_debug_mode() != self.deterministic:
            torch.set_deterministic_debug_mode(self.deterministic)
        with suppress(OSError):  # a folder that is gone: there is no way back
            os.chdir(self.folder)
        cast(list[Any], warnings.filters)[:] = self.warning_filters
        sys.stdout, sys.stderr = self.streams
        if sys.stdout.closed or sys.stderr.closed:
            sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        for name, value in self.variables.items():  # what a node adds stays: libraries set such at their first import
            if os.environ.get(name) != value:
                os.environ[name] = value


@contextmanager
def undisturbed() -> Iterator[None]:
    """Nodes compute without gradients here. Not for what is changed in libraries themselves: that stays."""
    before = _Standing.now()
    try:
        with torch.inference_mode():
            yield
    finally:
        before.restore()
