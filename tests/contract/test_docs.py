"""Docs are held to the code: every setting, route, command, option and error code is told, and links lead somewhere."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import typer

from limner import errors
from limner.cli.main import app
from limner.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)


def every_error() -> list[type[errors.LimnerError]]:
    found = [errors.LimnerError]
    for each in found:
        found += each.__subclasses__()
    return [each for each in found if each.__module__.startswith("limner.errors")]


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Settings)])
def test_every_setting_is_told(name: str) -> None:
    assert f"`{PREFIX}{name.upper()}`" in (ROOT / "docs" / "settings.md").read_text()


def test_every_command_and_option_is_told() -> None:
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"`limner {name}" in TEXT
        for parameter in command.params:
            for option in parameter.opts:
                assert not option.startswith("--") or option == "--help" or option in TEXT, f"limner {name} {option}"


def test_every_route_is_told() -> None:
    source = (ROOT / "src/limner/comfy/dialect/routes.py").read_text()
    paths = re.findall(r'^        "(/[^"]+)":', source, re.M)
    assert len(paths) > 10
    told = (ROOT / "docs" / "protocol.md").read_text()
    for path in paths:
        assert re.sub(r":path}", "}", path) in told, path


def test_every_error_code_is_told() -> None:
    for each in every_error():
        assert f"`{each.code}`" in TEXT, each


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_files_named_in_the_architecture_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name in re.findall(r"`((?:[a-z0-9_]+/)+[a-z0-9_]+\.(?:py|json))`", text):
        assert (ROOT / "src/limner" / name).exists(), name
