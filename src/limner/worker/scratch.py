"""A worker's scratch folder: its own while it lives. What killed workers left goes with the next start."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from limner.errors import Misconfigured

LOCK = ".lock"
PATIENCE_SECONDS = 10.0  # one that is killed may take a moment to be gone
POLL_SECONDS = 0.1


@contextmanager
def scratch_folder(root: Path, worker: str) -> Iterator[Path]:
    """An empty folder below `root` that is this worker's alone; folders there that nobody holds are removed.

    Raises Misconfigured where a living worker has the same id.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root / worker
    lock = FileLock(folder / LOCK)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _take(root, folder, lock):
        if time.monotonic() > deadline:
            raise Misconfigured(f"another worker runs as {worker!r}: each needs a LIMNER_WORKER_ID of its own")
        time.sleep(POLL_SECONDS)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _take(root: Path, folder: Path, lock: FileLock) -> bool:
    """One worker at a time does this, so that none removes a folder between its making and its locking."""
    with FileLock(root / LOCK):
        for found in root.iterdir():
            if found.is_dir():
                _remove_unless_held(found)
        if folder.exists():
            return False
        folder.mkdir()
        lock.acquire(blocking=False)
    return True


def _remove_unless_held(folder: Path) -> None:
    try:
        with FileLock(folder / LOCK, blocking=False):
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return
