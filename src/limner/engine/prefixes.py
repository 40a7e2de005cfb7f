"""`filename_prefix` of nodes that save: its tokens, and the folder in it."""

from __future__ import annotations

import time
from pathlib import PurePosixPath

from limner.errors import BadName

MAX_NAME_CHARACTERS = 200
BATCH = "%batch_num%"


def fill_tokens(prefix: str, *, width: int, height: int, now: time.struct_time) -> str:
    """A `filename_prefix` with its size and time tokens replaced, as ComfyUI's server does it."""
    if "%" not in prefix:
        return prefix
    values = {"width": str(width), "height": str(height), "year": f"{now.tm_year}"}
    two_digits = {
        "month": now.tm_mon,
        "day": now.tm_mday,
        "hour": now.tm_hour,
        "minute": now.tm_min,
        "second": now.tm_sec,
    }
    values |= {name: f"{number:02}" for name, number in two_digits.items()}
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", value)
    return prefix


def split_prefix(prefix: str) -> tuple[str, str]:
    """(subfolder, file part) of a prefix. Raises BadName where it is absolute, holds `..` or control characters."""
    path = PurePosixPath(prefix.replace("\\", "/"))
    parts = path.parts
    drive = bool(parts) and ":" in parts[0]
    if path.is_absolute() or drive or ".." in parts or any(ord(letter) < 32 for letter in prefix):
        raise BadName(f"filename_prefix {prefix!r} leaves the output folder")
    if any(len(part.encode()) > MAX_NAME_CHARACTERS for part in parts):
        raise BadName(f"filename_prefix {prefix[:40]!r}... is longer than {MAX_NAME_CHARACTERS} bytes")
    ends_in_folder = prefix.endswith(("/", "\\")) or not parts
    folders, stem = (parts, "") if ends_in_folder else (parts[:-1], parts[-1])
    return "/".join(folders), stem
