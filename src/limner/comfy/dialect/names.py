"""The names under which callers ask for files, as ComfyUI reads them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from limner.errors import BadName, LimnerError, NotFound
from limner.services.names import plain

FOLDERS = ("output", "temp", "input")

MARK = re.compile(r"^(?P<name>.*?).?\[(?P<folder>output|temp|input)\]$", re.DOTALL)


class OutsideFolder(LimnerError):
    """A subfolder that leaves the folder it should be in."""

    code = "invalid_input"
    status = 403


@dataclass(frozen=True, slots=True, kw_only=True)
class FileName:
    """One file: the folder (`output`, `temp`, `input`), the subfolder in it, the name in that."""

    type: str
    subfolder: str
    filename: str

    @classmethod
    def read(cls, query: Mapping[str, str]) -> FileName:
        """From a query or from upload/mask's `original_ref`. A mark such as `a.png [input]` wins over `type`.

        Raises NotFound for no name at all, BadName for a bad one, OutsideFolder for a bad subfolder.
        """
        if "filename" not in query:
            raise NotFound("which file? The query has no filename")
        name, folder = query["filename"], query.get("type", "output")
        if marked := MARK.match(name):
            name, folder = marked["name"], marked["folder"]
        if not name or name.startswith("/") or ".." in name or not plain(name):
            raise BadName(f"{name!r} is no file name")
        if folder not in FOLDERS:
            raise BadName(f"type must be one of {', '.join(FOLDERS)}, not {folder!r}")
        filename = posixpath.basename(name)
        if not filename:
            raise BadName(f"{name!r} names a folder")
        return cls(type=folder, subfolder=inner_folder(query.get("subfolder", "")), filename=filename)


def inner_folder(subfolder: str) -> str:
    """A subfolder without detours, "" for the folder itself. Raises OutsideFolder."""
    if not subfolder:
        return ""
    inner = posixpath.normpath(subfolder.replace("\\", "/"))
    if inner.startswith(("/", "../")) or inner == ".." or not plain(subfolder):
        raise OutsideFolder(f"the subfolder {subfolder!r} leaves its folder")
    return "" if inner == "." else inner


def disposition(filename: str) -> str:
    """The header that names the file; names beyond plain ASCII in the form of RFC 6266."""
    if filename.isascii() and not set(filename) & {'"', "\\"}:
        return f'filename="{filename}"'
    plain = "".join(c if c.isascii() and c not in '"\\' else "_" for c in filename)
    return f"filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
