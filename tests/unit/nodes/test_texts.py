from typing import Any

import pytest

from limner.errors import UnfitInput
from limner.nodes import library
from limner.nodes.text import limits, patterns
from tests.unit.nodes.contexts import result_of

NODES = library.load()


def run(name: str, **inputs: Any) -> Any:
    (value,) = result_of(NODES[name], inputs).values
    return value


def regex(name: str, string: str, pattern: str, **more: Any) -> Any:
    flags = {"case_insensitive": True, "multiline": False, "dotall": False, **more}
    return run(name, string=string, regex_pattern=pattern, **flags)


def test_texts_are_joined_with_a_delimiter() -> None:
    assert run("StringConcatenate", string_a="a", string_b="b", delimiter=", ") == "a, b"


@pytest.mark.parametrize(("start", "end", "part"), [(0, 3, "abc"), (2, -1, "cde"), (-2, 100, "ef"), (4, 2, "")])
def test_a_part_of_a_text_is_cut_as_python_does(start: int, end: int, part: str) -> None:
    assert run("StringSubstring", string="abcdef", start=start, end=end) == part


def test_a_length_counts_characters() -> None:
    assert run("StringLength", string="a€😀") == 3


@pytest.mark.parametrize(
    ("mode", "changed"),
    [
        ("UPPERCASE", "A DOG'S Ä"),
        ("lowercase", "a dog's ä"),
        ("Capitalize", "A dog's ä"),
        ("Title Case", "A Dog'S Ä"),
    ],
)
def test_case_is_converted(mode: str, changed: str) -> None:
    assert run("CaseConverter", string="a doG's ä", mode=mode) == changed


@pytest.mark.parametrize(("mode", "trimmed"), [("Both", "a b"), ("Left", "a b \n"), ("Right", " \ta b")])
def test_blanks_are_trimmed(mode: str, trimmed: str) -> None:
    assert run("StringTrim", string=" \ta b \n", mode=mode) == trimmed


def test_text_is_replaced() -> None:
    assert run("StringReplace", string="a.b.c", find=".", replace="--") == "a--b--c"
    assert run("StringReplace", string="ab", find="", replace="-") == "-a-b-"


@pytest.mark.parametrize(("sensitive", "found"), [(True, False), (False, True)])
def test_contains_follows_case(sensitive: bool, found: bool) -> None:
    assert run("StringContains", string="Hello", substring="hell", case_sensitive=sensitive) is found


@pytest.mark.parametrize(
    ("mode", "second", "verdict"),
    [("Starts With", "he", True), ("Ends With", "LO", True), ("Equal", "hello", True), ("Equal", "hell", False)],
)
def test_texts_are_compared(mode: str, second: str, verdict: bool) -> None:
    assert run("StringCompare", string_a="Hello", string_b=second, mode=mode, case_sensitive=False) is verdict
    assert run("StringCompare", string_a="Hello", string_b=second, mode=mode, case_sensitive=True) is False


@pytest.mark.parametrize("name", ["CaseConverter", "StringTrim"])
def test_an_unknown_mode_is_named(name: str) -> None:
    with pytest.raises(UnfitInput, match="'Sideways' is none of"):
        run(name, string="a", mode="Sideways")


def test_a_pattern_matches_anywhere_and_follows_its_flags() -> None:
    assert regex("RegexMatch", "a Cat", "cat") is True
    assert regex("RegexMatch", "a Cat", "cat", case_insensitive=False) is False
    assert regex("RegexMatch", "a\nb", "^b") is False
    assert regex("RegexMatch", "a\nb", "^b", multiline=True) is True
    assert regex("RegexMatch", "a\nb", "a.b") is False
    assert regex("RegexMatch", "a\nb", "a.b", dotall=True) is True


@pytest.mark.parametrize(
    ("mode", "group", "found"),
    [
        ("First Match", 1, "k1=v1"),
        ("All Matches", 1, "k1=v1\nk2=v2"),
        ("First Group", 2, "v1"),
        ("First Group", 0, "k1=v1"),
        ("All Groups", 1, "k1\nk2"),
        ("All Groups", 3, ""),
    ],
)
def test_matches_and_groups_are_extracted(mode: str, group: int, found: str) -> None:
    assert regex("RegexExtract", "k1=v1; k2=v2", r"(\w+)=(\w+)", mode=mode, group_index=group) == found


@pytest.mark.parametrize("mode", ["First Match", "All Matches", "First Group", "All Groups"])
def test_nothing_found_gives_an_empty_text(mode: str) -> None:
    assert regex("RegexExtract", "abc", r"(\d)", mode=mode, group_index=1) == ""


def test_a_group_that_took_no_part_is_empty() -> None:
    assert regex("RegexExtract", "b", "(a)|(b)", mode="First Group", group_index=1) == ""


@pytest.mark.parametrize(("count", "text"), [(0, "<a><b><c>"), (2, "<a><b>c")])
def test_matches_are_replaced_with_their_groups(count: int, text: str) -> None:
    assert regex("RegexReplace", "abc", r"(?P<x>\w)", replace=r"<\g<x>>", count=count) == text


def test_the_flags_of_a_replacement_may_be_left_out() -> None:
    assert run("RegexReplace", string="Aa", regex_pattern="a", replace="b") == "bb"


@pytest.mark.parametrize("pattern", ["(", "[a", "*a", r"\1", "(?P<n", "a{2,1}", "(" * 4000 + ")" * 4000])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(UnfitInput, match="is no regular expression"):
        regex("RegexMatch", "a", pattern)


@pytest.mark.parametrize("by", [r"\2", r"\g<zz>", "\\"])
def test_a_replacement_that_names_no_group_is_refused(by: str) -> None:
    with pytest.raises(UnfitInput, match="is no regular expression that can be used here"):
        regex("RegexReplace", "a", "(a)", replace=by, count=0)


@pytest.mark.parametrize("name", ["RegexMatch", "RegexExtract", "RegexReplace"])
def test_a_pattern_that_would_search_for_ever_is_stopped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "LONGEST_SEARCH_S", 0.2)
    more = {"RegexExtract": {"mode": "All Matches", "group_index": 0}, "RegexReplace": {"replace": "", "count": 0}}
    with pytest.raises(UnfitInput, match="found no end within"):
        regex(name, "a" * 60 + "b", "(a|aa)+$", **more.get(name, {}))


@pytest.mark.parametrize(
    "pattern",
    ["((a{1000}){1000}){1000}", "(?1){9999999}(a)", "a{1000}{1000}", "a{99999999999999999999}", r"[\]({]{2000000}"],
)
def test_a_pattern_that_would_fill_the_memory_is_refused(pattern: str) -> None:
    with pytest.raises(UnfitInput, match="is too large"):
        regex("RegexMatch", "a", pattern)


@pytest.mark.parametrize("pattern", [r"(ab){0,1000000}", r"a{100}b{100}", r"\{9999999}", r"[{9999999}]", "(a|b)*{2}"])
def test_patterns_that_stay_small_are_taken(pattern: str) -> None:
    assert patterns.expanded_size(pattern) < patterns.LARGEST_PATTERN


def test_an_overlong_pattern_is_refused() -> None:
    with pytest.raises(UnfitInput, match="10001 characters"):
        regex("RegexMatch", "a", "[" * 10_001)


def test_texts_do_not_grow_without_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LONGEST_TEXT", 1000)
    for name, inputs in {
        "StringConcatenate": {"string_a": "a" * 600, "string_b": "b" * 600, "delimiter": ""},
        "StringReplace": {"string": "a" * 100, "find": "a", "replace": "b" * 20},
        "RegexReplace": {"string": "a" * 100, "regex_pattern": "a", "replace": "b" * 20},
    }.items():
        with pytest.raises(UnfitInput, match="at most 1000"):
            run(name, **inputs)
