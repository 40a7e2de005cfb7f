"""File names and folders from outside: checked once, the same way for everybody."""

from __future__ import annotations

import posixpath
import re
import sys

from limner.errors import BadName

LONGEST = 255  # bytes, the limit of the common file systems
TYPES = ("input", "output", "temp")
CASE_BLIND = sys.platform in ("win32", "darwin")
_MARK = re.compile(r"^(?P<name>.*?) ?\[(?P<type>input|output|temp)\]$", re.DOTALL)


def subfolder_of(text: str) -> str:
    """A subfolder in one spelling: `/` between its parts, none around, "" for the folder itself. Raises BadName."""
    text = text.replace("\\", "/")
    if text.startswith("/") or "\0" in text or ".." in text.split("/") or re.match(r"^[A-Za-z]:", text):
        raise BadName(f"The folder {text!r} leaves its place. Use a relative path without '..'.", name=text)
    tidy = posixpath.normpath(text).strip("/") if text.strip("/") else ""
    for part in tidy.split("/"):
        _check_part(part)
    return "" if tidy == "." else tidy


def filename_of(text: str) -> str:
    """A plain file name. Raises BadName when it is empty, holds a folder, or cannot be a name."""
    if not text or text in (".", "..") or "/" in text or "\\" in text or "\0" in text:
        raise BadName(f"{text!r} is no file name: it must be a single name, without a folder.", name=text)
    _check_part(text)
    return text


def reference_of(text: str, default: str = "input") -> tuple[str, str, str]:
    """(type, subfolder, filename) of a file as a workflow names it: `a.png`, `sub/a.png`, `a.png [output]`."""
    marked = _MARK.match(text)
    kind, path = (marked["type"], marked["name"]) if marked else (default, text)
    folder, _, name = path.replace("\\", "/").rpartition("/")
    if path.startswith(("/", "\\")):
        raise BadName(f"The name {text!r} leaves its place. Use a relative path.", name=text)
    return kind, subfolder_of(folder), filename_of(name)


def folded(name: str) -> str:
    """A name as this machine's disk tells it from others."""
    return name.casefold() if CASE_BLIND else name


def plain(text: str) -> bool:
    """Whether a name may hold these characters: all but control characters and halves of surrogate pairs."""
    return not any(ord(letter) < 32 or ord(letter) == 0x7F or 0xD800 <= ord(letter) < 0xE000 for letter in text)


def _check_part(part: str) -> None:
    if len(part.encode(errors="surrogatepass")) > LONGEST:
        raise BadName(f"The name {part[:40]!r}... is longer than {LONGEST} bytes.", name=part)
    if not plain(part):
        raise BadName(f"The name {part!r} holds characters that no file name has.", name=part)
