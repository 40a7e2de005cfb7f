"""What every test run needs: no skip passes unseen, and the end says what was not tested."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: more threads only wait for each other

REQUIRE_ALL = os.environ.get("LIMNER_REQUIRE") == "all"
_not_selected: dict[str, int] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With LIMNER_REQUIRE=all a skip is a failure: that run promises to leave nothing out."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped under LIMNER_REQUIRE=all: {call.excinfo.value if call.excinfo else ''}"
    return report


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        reason = "needs a CUDA device (`pytest -m gpu`)" if item.get_closest_marker("gpu") else None
        if reason is None:
            marked = item.config.getoption("-m")
            slow = "slow: run `make test-slow`" if item.get_closest_marker("slow") else "not slow: run `make test`"
            reason = slow if marked else "not asked for"
        _not_selected[reason] = _not_selected.get(reason, 0) + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.section("not tested in this run, and why")
    for reason, count in sorted(_not_selected.items()):
        terminalreporter.line(f"{count:4} tests: {reason}")
    for report in skipped:
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.line(f"   1 test: {report.nodeid}: {why.removeprefix('Skipped: ')}")
    if not skipped and not _not_selected:
        terminalreporter.line("nothing was left out")
