"""Nodes that search texts with regular expressions."""

from __future__ import annotations

from typing import Annotated

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Choices, Flag, Int, Text
from limner.nodes.sockets import Boolean, String
from limner.nodes.text.limits import check_length
from limner.nodes.text.patterns import Pattern

Long = Annotated[str, Text(multiline=True)]
Yes = Annotated[bool, Flag()]
MaybeYes = Annotated[bool, Flag(optional=True)]
MODULE, CATEGORY = "comfy_extras.nodes_string", "utils/string"


@node(
    "RegexMatch",
    display_name="Regex Match",
    category=CATEGORY,
    module=MODULE,
    schema_style=True,
    outputs={"matches": "BOOLEAN"},
)
def regex_match(
    *, string: Long, regex_pattern: Long, case_insensitive: Yes = True, multiline: Yes = False, dotall: Yes = False
) -> Boolean:
    """Whether a regular expression matches anywhere in a text."""
    pattern = Pattern.of(regex_pattern, case_insensitive=case_insensitive, multiline=multiline, dotall=dotall)
    return pattern.first(string) is not None


@node("RegexExtract", display_name="Regex Extract", category=CATEGORY, module=MODULE, schema_style=True)
def regex_extract(
    *,
    string: Long,
    regex_pattern: Long,
    mode: Annotated[str, Choices("First Match", "All Matches", "First Group", "All Groups")],
    case_insensitive: Yes = True,
    multiline: Yes = False,
    dotall: Yes = False,
    group_index: Annotated[int, Int(0, 100)] = 1,
) -> String:
    """What a regular expression finds in a text: matches, or what one of its groups matched; of several, one a line.

    Nothing found gives an empty text, and so does a group that the expression does not have.
    """
    pattern = Pattern.of(regex_pattern, case_insensitive=case_insensitive, multiline=multiline, dotall=dotall)
    group = group_index if mode.endswith(("Group", "Groups")) else 0
    if group > pattern.compiled.groups:
        return ""
    if mode in ("First Match", "First Group"):
        match = pattern.first(string)
        return "" if match is None else match[group] or ""
    if mode not in ("All Matches", "All Groups"):
        raise UnfitInput(f"the mode {mode!r:.100} is none of First Match, All Matches, First Group, All Groups")
    found = [match[group] or "" for match in pattern.all(string)]
    check_length(sum(map(len, found)) + len(found))
    return "\n".join(found)


@node("RegexReplace", display_name="Regex Replace", category=CATEGORY, module=MODULE, schema_style=True)
def regex_replace(
    *,
    string: Long,
    regex_pattern: Long,
    replace: Long,
    case_insensitive: MaybeYes = True,
    multiline: MaybeYes = False,
    dotall: MaybeYes = False,
    count: Annotated[int, Int(0, 100, optional=True)] = 0,
) -> String:
    r"""Replaces what a regular expression matches: the first `count` times, or every time where that is 0.

    In the replacement, \1 and \g<name> stand for what a group matched.
    """
    pattern = Pattern.of(regex_pattern, case_insensitive=case_insensitive, multiline=multiline, dotall=dotall)
    return pattern.replaced(string, replace, count)
