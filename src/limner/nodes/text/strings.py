"""Nodes that join, cut, change and compare texts."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, TypeVar

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Choices, Flag, Int, Text
from limner.nodes.sockets import Boolean, Integer, String
from limner.nodes.text.limits import check_length

T = TypeVar("T")
Long = Annotated[str, Text(multiline=True)]
MODULE, CATEGORY = "comfy_extras.nodes_string", "utils/string"


@node("StringConcatenate", display_name="Concatenate", category=CATEGORY, module=MODULE, schema_style=True)
def concatenate(*, string_a: Long, string_b: Long, delimiter: Annotated[str, Text()] = "") -> String:
    """Joins two texts, with a delimiter between them."""
    check_length(len(string_a) + len(string_b) + len(delimiter))
    return delimiter.join((string_a, string_b))


@node("StringSubstring", display_name="Substring", category=CATEGORY, module=MODULE, schema_style=True)
def substring(*, string: Long, start: Annotated[int, Int()], end: Annotated[int, Int()]) -> String:
    """The characters from `start` up to, and without, `end`. Numbers below 0 count from the end of the text."""
    return string[start:end]


@node(
    "StringLength",
    display_name="Length",
    category=CATEGORY,
    module=MODULE,
    schema_style=True,
    outputs={"length": "INT"},
)
def length(*, string: Long) -> Integer:
    """How many characters a text has."""
    return len(string)


@node("CaseConverter", display_name="Case Converter", category=CATEGORY, module=MODULE, schema_style=True)
def convert_case(
    *, string: Long, mode: Annotated[str, Choices("UPPERCASE", "lowercase", "Capitalize", "Title Case")]
) -> String:
    """Changes a text's letters to capitals or small ones. Capitalize begins the text with one, Title Case each word."""
    change = {
        "UPPERCASE": str.upper, "lowercase": str.lower, "Capitalize": str.capitalize, "Title Case": str.title,
    }  # fmt: skip
    return _chosen(change, mode)(string)


@node("StringTrim", display_name="Trim", category=CATEGORY, module=MODULE, schema_style=True)
def trim(*, string: Long, mode: Annotated[str, Choices("Both", "Left", "Right")]) -> String:
    """Takes blanks and line ends from the ends of a text."""
    return _chosen({"Both": str.strip, "Left": str.lstrip, "Right": str.rstrip}, mode)(string)


@node("StringReplace", display_name="Replace", category=CATEGORY, module=MODULE, schema_style=True)
def replace(*, string: Long, find: Long, replace: Long) -> String:
    """Puts one text for every occurrence of another."""
    check_length(len(string) + string.count(find) * (len(replace) - len(find)))
    return string.replace(find, replace)


@node(
    "StringContains",
    display_name="Contains",
    category=CATEGORY,
    module=MODULE,
    schema_style=True,
    outputs={"contains": "BOOLEAN"},
)
def contains(*, string: Long, substring: Long, case_sensitive: Annotated[bool, Flag()] = True) -> Boolean:
    """Whether a text occurs in another one."""
    return _cased(substring, case_sensitive) in _cased(string, case_sensitive)


@node("StringCompare", display_name="Compare", category=CATEGORY, module=MODULE, schema_style=True)
def compare(
    *,
    string_a: Long,
    string_b: Long,
    mode: Annotated[str, Choices("Starts With", "Ends With", "Equal")],
    case_sensitive: Annotated[bool, Flag()] = True,
) -> Boolean:
    """Whether the first text starts with, ends with or equals the second one."""
    tests: dict[str, Callable[[str, str], bool]] = {
        "Starts With": str.startswith, "Ends With": str.endswith, "Equal": operator.eq,
    }  # fmt: skip
    return _chosen(tests, mode)(_cased(string_a, case_sensitive), _cased(string_b, case_sensitive))


def _cased(text: str, case_sensitive: bool) -> str:
    return text if case_sensitive else text.lower()


def _chosen(choices: dict[str, T], mode: str) -> T:
    if mode not in choices:
        raise UnfitInput(f"the mode {mode!r:.100} is none of {', '.join(choices)}")
    return choices[mode]
