"""Runs a program that knows nothing of us, and ends it with us: `python -m limner.processes.guard COMMAND...`.

A ComfyUI may be started by a script, and may start programs itself. The kernel would end only the first of them when
Limner is killed; the guard, woken by the end of its standard input, ends their whole process group, its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from limner.worker.orphans import die_with_parent

NOT_FOUND = 127  # what a shell says, too


def main() -> int:
    """The program's exit code; 128 + N where signal N ended it."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: None)  # the whole group gets it; we stay as long as the program does
    try:
        process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
    except OSError as error:
        print(f"limner: cannot start {sys.argv[1]}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return NOT_FOUND
    code = process.wait()
    return code if code >= 0 else 128 - code


def _end_with_parent() -> None:
    while os.read(0, 1):  # nobody writes: it returns when the parent is gone
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
