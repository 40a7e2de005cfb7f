"""Weights in a prompt: `(cat)` counts 1.1 times, `(cat:1.3)` 1.3 times, `\\(cat\\)` is a cat in brackets."""

from __future__ import annotations

import math

EMPHASIS = 1.1


def weighted_pieces(prompt: str) -> list[tuple[str, float]]:
    """The prompt in pieces of one weight each, in order, without the brackets that gave the weights.

    `(x)` multiplies the weight around it by 1.1, `(x:w)` sets it to w. Where brackets do not match, the rest is text.
    """
    ends = _matches(prompt)
    pieces: list[tuple[str, float]] = []
    waiting = [(0, len(prompt), 1.0)]  # stretches of the text still to be read, the next one last
    while waiting:
        start, end, weight = waiting.pop()
        bracket = next((place for place in range(start, end) if place in ends), None)
        plain_end = end if bracket is None else bracket
        if plain_end > start:
            pieces.append((unescaped(prompt[start:plain_end]), weight))
        if bracket is not None:
            waiting.append((ends[bracket] + 1, end, weight))
            waiting.append(_inside(prompt, bracket + 1, ends[bracket], weight))
    return pieces


def unescaped(text: str) -> str:
    """The text as it is meant to be read: `\\(` is a bracket."""
    return text.replace("\\(", "(").replace("\\)", ")")


def _matches(text: str) -> dict[int, int]:
    """Where each bracket that opens is closed; none from the first bracket on that has no partner.

    A bracket behind a backslash is a letter like any other.
    """
    ends: dict[int, int] = {}
    opened: list[int] = []
    for place, letter in enumerate(text):
        if place and text[place - 1] == "\\":
            continue
        if letter == "(":
            opened.append(place)
        elif letter == ")" and opened:
            ends[opened.pop()] = place
        elif letter == ")":
            return {start: end for start, end in ends.items() if end < place}
    return {start: end for start, end in ends.items() if not opened or start < opened[0]}


def _inside(text: str, start: int, end: int, weight: float) -> tuple[int, int, float]:
    colon = text.rfind(":", start, end)
    if colon > start:
        try:
            told = float(text[colon + 1 : end])
        except ValueError:
            told = math.nan
        if math.isfinite(told):
            return start, colon, told
    return start, end, weight * EMPHASIS
