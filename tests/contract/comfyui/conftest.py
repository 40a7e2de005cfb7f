"""A replayed ComfyUI for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.replayer import Replayer


@pytest.fixture
async def comfyui() -> AsyncIterator[Replayer]:
    async with Replayer() as server:
        yield server
        assert not server.unknown, f"graphs that nobody recorded: {server.unknown}"
