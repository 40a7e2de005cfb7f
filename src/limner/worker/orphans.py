"""No process of a tree outlives its parent, also when that is ended by kill -9."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Called in a child, or in its fork before the program starts. On Linux the kernel then ends it with its parent."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def watch_parent(parent: int) -> None:
    """For a Python child: ends it as soon as `parent` is no longer its parent."""
    die_with_parent()
    if os.getppid() != parent:  # it ended before we asked the kernel
        os._exit(1)
    if _libc is None:
        threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(1.0)
    os._exit(1)
