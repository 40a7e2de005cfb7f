"""The engines of a machine, read from its settings: what is meant, and what is refused in words that help."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from limner.errors import Misconfigured
from limner.processes import engines as module
from limner.processes.engines import Chosen, check_own, engines_of_server, engines_of_worker
from limner.settings import Settings

A, B = "comfyui=http://127.0.0.1:8101", "comfyui=http://10.1.2.3:8102/comfy"
C = "comfyui=http://localhost:8103"
START = f"{sys.executable} main.py --listen {{host}} --port {{port}}"


def settings(tmp_path: Path, **given: Any) -> Settings:
    return Settings.from_env({}, data_dir=tmp_path, **given)


def ids(engines: list[Chosen]) -> list[str]:
    return [engine.worker_id for engine in engines]


def test_without_a_word_it_is_limners_own_engine(tmp_path: Path) -> None:
    assert engines_of_worker(settings(tmp_path)) == [Chosen()]
    assert ids(engines_of_server(settings(tmp_path, workers=2))) == ["local-1", "local-2"]


def test_engines_of_both_kinds_are_driven_beside_each_other(tmp_path: Path) -> None:
    own, first, second = engines_of_server(settings(tmp_path, engines=("own", A, B)))
    assert own == Chosen(worker_id="local-1")
    assert (first.text, second.text) == (A, B)
    assert first.address is not None
    assert first.address.base == "http://127.0.0.1:8101"


def test_a_comfyui_s_worker_keeps_its_name_over_restarts(tmp_path: Path) -> None:
    """By its address, with the machine's name where that is loopback: two machines' are not one."""
    host = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().lower()).strip("-")
    assert ids(engines_of_worker(settings(tmp_path, engines=(A, B)))) == [
        f"comfyui-{host}-8101",
        "comfyui-10-1-2-3-8102-comfy",
    ]
    assert ids(engines_of_worker(settings(tmp_path, engines=(A,), worker_id="w"))) == ["w"]
    assert ids(engines_of_worker(settings(tmp_path, engines=(A, B), worker_id="w"))) == ["w-1", "w-2"]


def test_engines_can_be_named_in_the_environment(tmp_path: Path) -> None:
    env = {"LIMNER_DATA_DIR": str(tmp_path), "LIMNER_ENGINES": f"own  {A}", "LIMNER_STARTS": f"\n{START}\n"}
    own, comfy = engines_of_worker(Settings.from_env(env))
    assert own.start == ()
    assert comfy.start == (sys.executable, "main.py", "--listen", "127.0.0.1", "--port", "8101")


def test_one_command_starts_each_comfyui_on_its_own_port(tmp_path: Path) -> None:
    first, second = engines_of_worker(settings(tmp_path, engines=(A, C), starts=(START,)))
    assert first.start[-3:] == ("127.0.0.1", "--port", "8101")
    assert second.start[-3:] == ("localhost", "--port", "8103")


def test_one_command_gives_each_comfyui_its_own_device(tmp_path: Path) -> None:
    start = f"{sys.executable} main.py --port {{port}} --cuda-device {{index}}"
    first, own, second = engines_of_worker(settings(tmp_path, engines=(A, "own", C), starts=(start,)))
    assert (first.start[-1], own.start, second.start[-1]) == ("0", (), "1")


def test_each_comfyui_can_have_a_command_of_its_own(tmp_path: Path) -> None:
    starts = (f"{sys.executable} one.py", f"{sys.executable} 'two three.py' {{\"json\":1}}")
    first, own, second = engines_of_worker(settings(tmp_path, engines=(A, "own", C), starts=starts))
    assert first.start == (sys.executable, "one.py")
    assert own.start == ()
    assert second.start == (sys.executable, "two three.py", "{json:1}")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"engines": ("comfy",)}, r"--engine comfy is no engine: write own, or comfyui=URL"),
        ({"engines": ("comfyui=ftp://x",)}, r"--engine comfyui=URL: .*ftp://x.*http://"),
        ({"engines": ("comfyui=",)}, r"--engine comfyui=URL: .*http://"),
        ({"engines": ("comfyui=http://127.0.0.1:99999",)}, r"--engine .*1 to 65535"),
        ({"engines": (A, A)}, r"--engine comfyui=http://127\.0\.0\.1:8101 is given twice"),
        ({"engines": (A, "comfyui=http://localhost:8101/")}, r"localhost:8101 is given twice"),
        ({"engines": (A, "own"), "workers": 2}, r"--workers 2 does not go with --engine"),
        ({"engines": (A,), "port": 8101}, r"Limner itself listens on; use another --port .*8000"),
        ({"engines": (C,), "port": 8103}, r"Limner itself listens on"),
        ({"starts": (START,)}, r"--start .* no --engine comfyui=URL"),
        ({"engines": ("own",), "starts": (START,)}, r"--start .* no --engine comfyui=URL"),
        ({"engines": (A,), "starts": (START, START)}, r"2 --start for 1 --engine"),
        ({"engines": (A, C), "starts": (START, START, START)}, r"3 --start for 2 --engine"),
        ({"engines": (A, C), "starts": ("python main.py",)}, r"write \{port\} where the port stands"),
        ({"engines": (A,), "starts": ("python 'main.py",)}, r"--start \"python 'main.py\" cannot be read"),
        ({"engines": (A,), "starts": ("no-such-program main.py",)}, r"no program 'no-such-program' .* whole path"),
        (
            {"engines": ("comfyui=http://192.0.2.1:8188",), "starts": (START,)},
            r"--start .* elsewhere: run `limner worker`",
        ),
    ],
)
def test_what_contradicts_itself_is_told(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(Misconfigured, match=told):
        engines_of_server(settings(tmp_path, **given))


def test_limners_own_engine_is_refused_before_the_start_where_torch_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comfyui, own = (engines_of_server(settings(tmp_path, engines=(each,))) for each in (A, "own"))
    check_own(own)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    check_own(comfyui)
    with pytest.raises(Misconfigured, match=r"pip install 'limner\[engine\]'.*--engine comfyui=URL"):
        check_own(own)


@pytest.mark.parametrize(
    "text",
    ["comfy=http://user:secret@host", "comfyui=http://user:secret@host:x", "comfy=http://user:p@/secret@host"],
)
def test_no_password_is_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(Misconfigured) as told:
        engines_of_worker(settings(tmp_path, engines=(text,)))
    assert "secret" not in told.value.message
