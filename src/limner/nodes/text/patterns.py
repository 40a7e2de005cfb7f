"""Regular expressions from users, kept from hanging the engine or eating its memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import regex

from limner.errors import UnfitInput
from limner.nodes.text.limits import check_length

LONGEST_SEARCH_S = 5.0
"""Some patterns need exponential time: "(a|aa)+$" on a few dozen letters."""

LARGEST_PATTERN = 100_000
"""Parts that a pattern may have once its counted repetitions are written out, as the library does: "(a{1000}){1000}"
has a million."""

LONGEST_PATTERN = 10_000
"""Characters that a pattern may have."""

_TOKEN = re.compile(
    r"\\."  # an escaped sign
    r"|\[\^?\]?(?:\\.|[^\]\\])*\]"  # a set
    r"|(?P<open>\()|(?P<close>\))"
    r"|\{(?P<least>\d*)(?:,\d*)?\}"  # a counted repetition
    r"|.",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern whose searches end in time."""

    compiled: regex.Pattern[str]

    @classmethod
    def of(cls, pattern: str, *, case_insensitive: bool, multiline: bool, dotall: bool) -> Pattern:
        """Raises UnfitInput where `pattern` is no regular expression, or would need too much memory."""
        if len(pattern) > LONGEST_PATTERN:
            raise UnfitInput(f"a regular expression of {len(pattern)} characters; at most {LONGEST_PATTERN} are taken")
        size = expanded_size(pattern)
        if size > LARGEST_PATTERN:
            raise UnfitInput(
                f"the regular expression {pattern!r:.200} is too large: its repetitions stand for {size} parts, "
                f"and at most {LARGEST_PATTERN} are taken"
            )
        flags = regex.IGNORECASE * case_insensitive | regex.MULTILINE * multiline | regex.DOTALL * dotall
        with _told(pattern):
            return cls(regex.compile(pattern, flags))

    def first(self, text: str) -> regex.Match[str] | None:
        """The first match. Raises UnfitInput where looking for it takes too long."""
        with _told(self.compiled.pattern):
            return self.compiled.search(text, timeout=LONGEST_SEARCH_S, concurrent=True)

    def all(self, text: str) -> list[regex.Match[str]]:
        """All matches that do not overlap. Raises UnfitInput where looking for them takes too long."""
        with _told(self.compiled.pattern):
            return list(self.compiled.finditer(text, timeout=LONGEST_SEARCH_S, concurrent=True))

    def replaced(self, text: str, by: str, count: int) -> str:
        r"""The text with the first `count` matches (0: all) replaced; \1 and \g<name> stand for what groups matched.

        Raises UnfitInput where it takes too long or becomes too long a text.
        """
        length = len(text)

        def written(match: regex.Match[str]) -> str:
            nonlocal length
            new: str = match.expand(by) if "\\" in by else by
            length += len(new)
            check_length(length)
            return new

        with _told(self.compiled.pattern):
            replaced: str = self.compiled.sub(written, text, count=count, timeout=LONGEST_SEARCH_S, concurrent=True)
        return replaced


def expanded_size(pattern: str) -> int:
    """How many parts a pattern has once its counted repetitions are written out; roughly, and never too few."""
    sums, last = [0], 0  # of each open bracket, and of the part that a repetition would repeat
    for token in _TOKEN.finditer(pattern):
        if token["open"]:
            sums.append(1)
            last = 0
        elif token["close"]:
            last = sums.pop() if len(sums) > 1 else 1
            sums[-1] += last
        elif token["least"]:
            more = last * (max(1, int(token["least"][:9])) - 1)
            sums[-1] += more
            last += more
        else:
            last = 1
            sums[-1] += 1
    return sum(sums)


@contextmanager
def _told(pattern: str) -> Iterator[Any]:
    """Tells what the library raises as UnfitInput."""
    try:
        yield
    except TimeoutError as error:
        raise UnfitInput(
            f"the regular expression {pattern!r:.200} found no end within {LONGEST_SEARCH_S:.0f} s: repetitions within "
            "repetitions can need exponential time"
        ) from error
    except (regex.error, IndexError, RecursionError, OverflowError) as error:
        raise UnfitInput(f"{pattern!r:.200} is no regular expression that can be used here: {error}") from error
