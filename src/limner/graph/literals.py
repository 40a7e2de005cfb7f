"""Literal inputs: converted to the type that the node declares, then checked against its limits and choices."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

from limner.graph import faults
from limner.graph.faults import Fault
from limner.graph.file_types import content_type
from limner.graph.spec import InputSpec

FILE_MARKS = (" [input]", " [output]", " [temp]")
"""What may follow a file's name in a workflow: the folder it lies in, else the input folder."""


KINDS_OF_FILE = frozenset({"image", "video", "audio"})
"""Upload kinds that are told by a file's name."""


def convert(spec: InputSpec, value: Any) -> Any:
    """The value as the node gets it. ValueError, TypeError or OverflowError say why there is none.

    As ComfyUI does it: "4" and 4.9 are 4 for INT, null is "None" for STRING, every text but "" is true for BOOLEAN.
    Only numbers that JSON can hold pass: no NaN and no infinity. Other types are left alone.
    """
    if spec.type == "STRING":
        return value if isinstance(value, str) else str(value)
    if spec.type == "BOOLEAN":
        return bool(value)
    if spec.type == "INT":
        return value if type(value) is int else int(value)
    if spec.type == "FLOAT":
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return value


def check_limits(spec: InputSpec, value: Any, *, any_choice: bool = False) -> Fault | None:
    """A fault where the value lies outside what the input declares. TypeError where the two cannot be compared.

    `any_choice`: a combo box takes what it does not offer as well.
    """
    options = spec.options
    if "min" in options and value < options["min"]:
        return faults.value_smaller_than_min(spec, value)
    if "max" in options and value > options["max"]:
        return faults.value_bigger_than_max(spec, value)
    choices = None if any_choice else spec.choices
    if choices is not None and value not in choices:
        return faults.value_not_in_list(spec, value)
    return None


def check_file(spec: InputSpec, value: Any, known_files: Collection[str]) -> Fault | None:
    """A fault where a name is none of the files that are there.

    They are named as workflows name them: files of the input folder bare, those of other folders with their mark.
    """
    if is_known(value, known_files):
        return None
    kind = "file" if spec.upload == "file" else f"{spec.upload} file"
    return faults.custom_validation_failed(spec.name, f"Invalid {kind}: {value}")


def is_known(value: Any, known_files: Collection[str]) -> bool:
    """Whether a workflow's value names one of these files."""
    if not isinstance(value, str):
        return False
    name, mark = split_mark(value)
    return value in known_files or (mark == "input" and name in known_files)


def may_be_filename(value: Any) -> bool:
    """Whether this looks like a file's name or path, and not like a word or an address in the web."""
    if not isinstance(value, str) or value.startswith(("http://", "https://", "data:")):
        return False
    return any(sign in value for sign in "./\\")


def offered_files(upload: str, names: Iterable[str]) -> list[str]:
    """Which of a tenant's input files a combo box offers: those in no subfolder whose names tell the wanted kind.

    `upload`: image, video, audio or latent; any other word stands for files of every kind.
    """
    top = [name for name in names if "/" not in name]
    if upload == "latent":
        return [name for name in top if name.endswith(".latent")]
    return top if upload not in KINDS_OF_FILE else [name for name in top if content_type(name).startswith(upload + "/")]


def split_mark(reference: str) -> tuple[str, str]:
    """`a.png [output]` into the name and the folder's mark; the mark is "" where there is none."""
    for mark in FILE_MARKS:
        if reference.endswith(mark):
            return reference[: -len(mark)], mark[2:-1]
    return reference, ""
