"""Nodes look at the memory before they ask for much of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from limner.errors import OutOfMemory, TooLarge
from limner.nodes import memory

GIB = 2**30


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 GiB in all, 2 of them free."""
    monkeypatch.setattr(memory, "total_ram", lambda: 8 * GIB)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2 * GIB))


def test_what_fits_passes() -> None:
    memory.check_room(1, 1024, 1024, 3)


def test_what_fits_no_more_may_fit_another_time() -> None:
    with pytest.raises(OutOfMemory, match=r"1 x 32768 x 32768 values need 4\.0 GiB, .* 2\.0 GiB left") as raised:
        memory.check_room(1, 32768, 32768)
    assert raised.value.retryable


def test_what_no_attempt_can_fit_is_the_workflows_fault() -> None:
    with pytest.raises(TooLarge, match=r"4 x 32768 x 32768 values need 16\.0 GiB, .* 8\.0 GiB in all") as raised:
        memory.check_room(4, 32768, 32768)
    assert raised.value.code == "out_of_memory"
    assert not raised.value.retryable
