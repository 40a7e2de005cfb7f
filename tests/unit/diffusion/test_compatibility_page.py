import re

import pytest
from tools import compatibility

WRITTEN = compatibility.written(compatibility.PAGE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def ours() -> dict[str, str]:
    return compatibility.tables()


def cells(table: str) -> list[list[str]]:
    return [re.split(r" ?(?<!\\)\| ?", row)[1:-1] for row in table.splitlines()]


@pytest.mark.parametrize("name", ["samplers", "schedulers"])
def test_the_page_tells_what_is_so(name: str, ours: dict[str, str]) -> None:
    """If this fails: python -m tools.compatibility --write. A bound may be wider than this machine needs."""
    for told, found in zip(cells(WRITTEN[name]), cells(ours[name]), strict=True):
        assert told[:2] + told[3:] == found[:2] + found[3:]
        assert told[2] == found[2] or float(told[2]) >= float(found[2])


def test_a_bound_leaves_room_for_the_rounding_of_another_machine() -> None:
    assert [compatibility.bound(error) for error in (0.0, 4e-7, 6e-7, 4e-5, 6e-5, 0.3)] == [
        "1e-6",
        "1e-6",
        "1e-5",
        "1e-4",
        "1e-3",
        "1e-0",
    ]
