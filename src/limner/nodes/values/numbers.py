"""Nodes that reckon, convert and read out values."""

from __future__ import annotations

import json
import math
import string
from typing import Annotated, Any

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Grows, Socket, Text
from limner.nodes.sockets import Boolean, Integer, Number, String
from limner.nodes.values import formula

NUMBER = "FLOAT,INT,BOOLEAN"
MOST_READ = 50_000_000
"""Characters that are looked at for a JSON object, those looked at again counted again."""


@node(
    "ComfyMathExpression",
    display_name="Math Expression",
    category="math",
    module="comfy_extras.nodes_math",
    schema_style=True,
    outputs={"FLOAT": "FLOAT", "INT": "INT", "BOOL": "BOOLEAN"},
)
def math_expression(
    *,
    expression: Annotated[str, Text(multiline=True)] = "a + b",
    **values: Annotated[Any, Grows(Socket(NUMBER), names=string.ascii_lowercase)],
) -> tuple[Number, Integer, Boolean]:
    """Reckons a formula over the connected numbers a, b, c, ..., which `values` lists.

    It may use + - * / // % ** and comparisons, `x if y else z`, and the functions sum min max abs round pow sqrt ceil
    floor log log2 log10 sin cos tan int float. The whole number is the result with its fraction cut off.
    """
    numbers = {name.removeprefix("values."): value for name, value in values.items() if name.startswith("values.")}
    for name, value in numbers.items():
        if not isinstance(value, int | float):
            raise UnfitInput(f"the value {name} is {value!r:.100}, which is no number")
    result = formula.reckoned(expression, numbers)
    return *_as_numbers(result), bool(result)


@node(
    "ComfyNumberConvert",
    display_name="Convert Number",
    category="math",
    module="comfy_extras.nodes_number_convert",
    schema_style=True,
    outputs={"FLOAT": "FLOAT", "INT": "INT"},
)
def convert_number(*, value: Annotated[Any, Socket("INT,FLOAT,STRING,BOOLEAN")]) -> tuple[Number, Integer]:
    """Turns a number, a text or a yes or no into a number; the whole number has its fraction cut off."""
    if isinstance(value, str):
        value = _read(value)
    if not isinstance(value, int | float):
        raise UnfitInput(f"{value!r:.100} is no number, text or yes or no")
    return _as_numbers(value)


@node(
    "JsonExtractString",
    display_name="Extract Text from JSON",
    category="utils/string",
    module="comfy_extras.nodes_string",
    schema_style=True,
)
def extract_from_json(*, json_string: Annotated[str, Text(multiline=True)], key: Annotated[str, Text()]) -> String:
    """The value of a key in the first JSON object that a text holds, as a text; what is around the object is skipped.

    Without an object, without the key, or where its value is null, the text is empty.
    """
    found = _first_object(json_string)
    value = None if found is None else found.get(key)
    return "" if value is None else str(value)


def _as_numbers(value: float) -> tuple[float, int]:
    try:
        return _finite(float(value)), int(value)
    except OverflowError as error:
        raise UnfitInput("a whole number of more than 308 digits, which is too large for a FLOAT") from error


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise UnfitInput(f"{value} is no finite number")
    return value


def _read(text: str) -> int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise UnfitInput(f"the text {text!r:.100} is no number" if text.strip() else "an empty text is no number")


def _first_object(text: str) -> dict[str, Any] | None:
    decoder, read = json.JSONDecoder(), 0
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            read += error.pos - start
        except RecursionError:
            read += len(text) - start
        else:
            if isinstance(found, dict):
                return found
        if read > MOST_READ:
            raise UnfitInput("the text has too many brackets that open no JSON object")
        start = text.find("{", start + 1)
    return None
