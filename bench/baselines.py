"""What this machine does without Limner, in the same run: figures are read as ratios to these."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from tests.support.tree import free_port, trivial

from bench.measure import percentile


def commit_ms(folder: Path, times: int = 200) -> dict[str, float]:
    """One row, one commit to SQLite with WAL and synchronous=FULL: the price of keeping a promise on this disk."""
    connection = sqlite3.connect(folder / "baseline.sqlite", isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("create table t (x text)")
    took = []
    for _ in range(times):
        start = time.perf_counter()
        connection.execute("insert into t values (?)", ("x" * 1000,))
        took.append((time.perf_counter() - start) * 1000)
    connection.close()
    return {"p50": percentile(took, 0.5), "p95": percentile(took, 0.95)}


def fsync_ms(folder: Path, times: int = 200) -> dict[str, float]:
    """4 kB written and synced."""
    took = []
    with (folder / "baseline.bin").open("wb") as file:
        for _ in range(times):
            start = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - start) * 1000)
    return {"p50": percentile(took, 0.5), "p95": percentile(took, 0.95)}


async def http_ms(times: int = 300) -> dict[str, float]:
    """POST of a small JSON body to an empty FastAPI route over loopback, on one connection."""
    app = FastAPI()

    @app.post("/prompt")
    async def prompt(body: dict[str, Any]) -> dict[str, str]:
        return {"prompt_id": "x"}

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    took = []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        for n in range(times):
            start = time.perf_counter()
            await http.post("/prompt", json={"prompt": trivial(n), "client_id": "bench"})
            took.append((time.perf_counter() - start) * 1000)
    server.should_exit = True
    await task
    return {"p50": percentile(took, 0.5), "p95": percentile(took, 0.95)}
