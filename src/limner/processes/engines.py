"""Which engines a machine drives, read from the settings; every contradiction is told before anything starts."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count

from limner.errors import Misconfigured
from limner.settings import Settings, is_loopback, without_password
from limner.worker.engines.comfyui.address import Address

OWN = "own"
COMFYUI = "comfyui="


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One engine. `text` is what LIMNER_ENGINES says of it; without `address` it is Limner's own.

    `start`: the command that starts the ComfyUI, empty where somebody else does.
    `worker_id`: empty where each start is to make a new one.
    """

    text: str = OWN
    address: Address | None = None
    start: tuple[str, ...] = ()
    worker_id: str = ""


def engines_of_server(settings: Settings) -> list[Chosen]:
    """The engines of `limner serve`. Raises Misconfigured, naming the option and what would be right."""
    engines = _engines(settings, without=[Chosen()] * settings.workers)
    if settings.engines and settings.workers != 1:
        raise Misconfigured(
            f"--workers {settings.workers} does not go with --engine: each --engine has one worker; "
            "repeat --engine own for more engines of Limner's own"
        )
    taken = {engine.address.port for engine in engines if engine.address is not None}
    for engine in engines:
        address = engine.address
        if address and _place_of(address.host, address.port) == _place_of(settings.host, settings.port):
            raise Misconfigured(
                f"--engine comfyui={address.shown} is the address that Limner itself listens on; "
                f"use another --port for Limner, such as --port {next(p for p in count(8000) if p not in taken)}"
            )
    named = _named(engines, settings)
    return [
        replace(engine, worker_id=f"local-{number}") if engine.address is None else engine
        for number, engine in enumerate(named, 1)
    ]


def engines_of_worker(settings: Settings) -> list[Chosen]:
    """The engines of `limner worker`, one of Limner's own where nothing is said. Raises Misconfigured."""
    return _named(_engines(settings, without=[Chosen()]), settings)


def check_own(engines: Sequence[Chosen]) -> None:
    """Raises Misconfigured where Limner's own engine is to work, but what it computes with is not installed."""
    if any(engine.address is None for engine in engines) and find_spec("torch") is None:
        raise Misconfigured(
            "Limner's own engine needs PyTorch, which is not installed here: run `pip install 'limner[engine]'`, "
            "or let a ComfyUI do the work: --engine comfyui=URL (`limner run`: --server URL)"
        )


def _engines(settings: Settings, *, without: list[Chosen]) -> list[Chosen]:
    """What was chosen, or `without`, with the commands that start them."""
    engines = [_read(text) for text in settings.engines] or without
    seen: dict[tuple[str, int, str], str] = {}
    for engine in engines:
        if engine.address is not None:
            place = (*_place_of(engine.address.host, engine.address.port), engine.address.prefix)
            if place in seen:
                raise Misconfigured(
                    f"--engine comfyui={engine.address.shown} is given twice (as {seen[place]}): "
                    "a ComfyUI has one supervisor"
                )
            seen[place] = engine.address.shown
    return _with_starts(engines, settings.starts)


def _read(text: str) -> Chosen:
    if text == OWN:
        return Chosen()
    if not text.startswith(COMFYUI):
        shown = without_password(text)
        raise Misconfigured(f"--engine {shown} is no engine: write own, or comfyui=URL (comfyui=http://127.0.0.1:8188)")
    try:
        return Chosen(text=text, address=Address.parse(text.removeprefix(COMFYUI)))
    except Misconfigured as error:
        raise Misconfigured(f"--engine {COMFYUI}URL: {error.message}") from error


def _with_starts(engines: list[Chosen], starts: Sequence[str]) -> list[Chosen]:
    """Each ComfyUI gets the command in its place, or all get the only one there is."""
    if not starts:
        return engines
    driven = sum(engine.address is not None for engine in engines)
    if driven == 0:
        raise Misconfigured("--start starts a ComfyUI, but there is no --engine comfyui=URL: give that one, too")
    if len(starts) not in (1, driven):
        raise Misconfigured(
            f"{len(starts)} --start for {driven} --engine comfyui=URL: give one for each, or a single one "
            "with {port} in it for all"
        )
    if len(starts) < driven and "{port}" not in starts[0]:
        raise Misconfigured(
            f"--start {starts[0]!r} is for {driven} engines, which would all listen on one port: "
            "write {port} where the port stands"
        )
    commands = enumerate(starts if len(starts) == driven else [starts[0]] * driven)
    return [
        engine if engine.address is None else replace(engine, start=_command(*next(commands), engine.address))
        for engine in engines
    ]


def _command(index: int, text: str, address: Address) -> tuple[str, ...]:
    """The words of a command, with the engine's host, port and index in their places. Raises Misconfigured."""
    if not _is_here(address.host):
        raise Misconfigured(
            f"--start starts a ComfyUI on this machine, but {address.shown} is elsewhere: run `limner worker` there"
        )
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise Misconfigured(f"--start {text!r} cannot be read as a command: {error}") from None
    if not words or shutil.which(words[0]) is None:
        program = repr(words[0]) if words else "named"
        raise Misconfigured(f"--start {text!r}: there is no program {program} that can be run; give its whole path")
    places = {"{port}": str(address.port), "{host}": address.host, "{index}": str(index)}
    return tuple(re.sub("|".join(map(re.escape, places)), lambda found: places[found[0]], word) for word in words)


def _named(engines: list[Chosen], settings: Settings) -> list[Chosen]:
    """Each with its worker's id: the one that was set, with a number where there are several, or one of its address."""
    several = len(engines) > 1
    named = []
    for number, engine in enumerate(engines, 1):
        if settings.worker_id:
            worker_id = f"{settings.worker_id}-{number}" if several else settings.worker_id
        else:
            worker_id = engine.address.worker_id() if engine.address is not None else ""
        named.append(replace(engine, worker_id=worker_id))
    return named


def _place_of(host: str, port: int) -> tuple[str, int]:
    """All names of this machine's own loopback are one."""
    return "127.0.0.1" if is_loopback(host) else host.lower(), port


def _is_here(host: str) -> bool:
    """Whether one can listen at this address on this machine."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(place)
    except OSError:
        return False
    return True
