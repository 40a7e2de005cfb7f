"""Whether ComfyUI reads its command line. Limner's engine does not read one for it."""

from __future__ import annotations

args_parsing = False


def enable_args_parsing(enable: bool = True) -> None:
    global args_parsing
    args_parsing = enable
