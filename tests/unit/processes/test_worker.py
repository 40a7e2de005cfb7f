"""A supervisor's engine is set as the settings say, and can ask its parent for a fresh one."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from limner.engine.policy import CachePolicy
from limner.processes import engine, worker
from limner.processes.engines import engines_of_worker
from limner.processes.worker import ask_by, engine_of
from limner.settings import Settings
from limner.worker.engines.comfyui import adapter
from limner.worker.engines.own import OwnEngine


def settings(tmp_path: Path, *engines: str, **given: Any) -> Settings:
    return Settings.from_env({}, data_dir=tmp_path, engines=engines, **given)


def test_without_a_word_the_engine_is_limners_own(tmp_path: Path) -> None:
    [chosen] = engines_of_worker(settings(tmp_path))
    assert isinstance(engine_of(chosen, settings(tmp_path), "w", lambda info: None, None, work=tmp_path), OwnEngine)


@pytest.mark.parametrize("cache", ["classic", "lru=7", "ram=1.5", "none"])
def test_limners_own_engine_is_told_which_results_to_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(worker, "OwnEngine", lambda command, **_: commands.append(command))
    told = settings(tmp_path, cache=cache)
    [chosen] = engines_of_worker(told)
    engine_of(chosen, told, "w", lambda info: None, None, work=tmp_path)
    monkeypatch.setattr(sys, "argv", [*commands[0][2:], "--fd", "3"])
    assert engine._arguments().cache == CachePolicy.parse(cache)


async def test_a_comfyui_s_engine_has_what_was_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(adapter, "ComfyEngine", lambda *given, **named: taken.append((given, named)))
    told = settings(
        tmp_path,
        "comfyui=http://127.0.0.1:8101",
        comfyui_hang_seconds=3.0,
        comfyui_free_seconds=4.0,
        comfyui_temp=False,
    )
    [chosen] = engines_of_worker(told)
    engine_of(chosen, told, "w", lambda info: None, None, work=tmp_path)
    [((address, config), named)] = taken
    assert address == chosen.address
    assert replace(config, deployment="") == adapter.ComfyConfig(
        worker="w", hang_seconds=3.0, free_after_seconds=4.0, keep_temp=False
    )
    assert named["ask_restart"] is None


async def test_workers_of_two_deployments_tell_each_other_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(adapter, "ComfyEngine", lambda *given, **named: taken.append(given[1].deployment))
    for data in ("one", "other", "one"):
        told = settings(tmp_path / data, "comfyui=http://127.0.0.1:8101")
        [chosen] = engines_of_worker(told)
        engine_of(chosen, told, "w", lambda info: None, None, work=tmp_path)
    assert taken[0] == taken[2] != taken[1] != ""


def test_a_restart_is_asked_for_by_a_byte_and_never_waits() -> None:
    theirs, ours = os.pipe()
    ask = ask_by(ours)
    assert ask is not None
    for _ in range(100_000):  # more than a pipe holds
        ask()
    assert os.read(theirs, 1) == b"r"
    os.close(theirs)
    os.close(ours)


def test_one_that_nobody_can_restart_is_not_asked_for() -> None:
    assert ask_by(None) is None
