"""A worker at work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from limner.worker import gateway, leaving
from tests.unit.worker.stage import Stage


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr(gateway, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(leaving, "FAREWELL_SECONDS", 0.2)
    stage = Stage(tmp_path)
    await stage.open()
    yield stage
    await stage.close()
