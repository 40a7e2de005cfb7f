"""Settings: read once from the environment (`LIMNER_*`) and the command line, then handed down, never changed.

The data directory, where nothing else is said:

    limner.lock     held by the `limner serve` that uses the directory
    db.sqlite       jobs, order, files, catalogues: the record (back this up)
    blobs/          the bytes of inputs and outputs
    output/         the outputs again, as ordinary files under readable names
    models/         checkpoints/, loras/, vae/ ...: your own model files
    nats/           the bundled nats-server's store; can be deleted while nothing runs
    logs/           nats-server.log, comfyui-N.log
    work/           scratch folders of running jobs; emptied at each start
"""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from limner.errors import Misconfigured

MIB = 1024 * 1024
DEFAULT_PORT = 8188
PREFIX = "LIMNER_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every member is `LIMNER_<NAME>` in the environment. Paths in a list are joined as in PATH.

    `engines` and `starts` are kept as they were written; `processes/engines.py` reads them.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    workers: int = 1
    engines: tuple[str, ...] = ()  # "own" or "comfyui=URL", a worker for each; empty: `workers` times "own"
    starts: tuple[str, ...] = ()  # commands that start the ComfyUIs among the engines
    comfyui_hang_seconds: float = 900.0  # without a sign of life for so long, a ComfyUI's run counts as hung
    comfyui_free_seconds: float = 0.0  # idle for so long, a ComfyUI is asked to free its memory; 0: never
    comfyui_temp: bool = True  # whether a ComfyUI's temporary pictures are fetched too
    models: tuple[Path, ...] = ()  # model folders beside the data directory's own
    custom_nodes: tuple[Path, ...] = ()  # folders with packs of custom nodes; their code runs in the engine
    custom_node_routes: bool = False  # whether packs answer HTTP requests to the routes that they declare
    cache: str = "classic"  # which results an engine keeps between runs: classic, lru=N, ram=GB or none
    extra_model_paths: tuple[Path, ...] = ()  # files that tell of further model folders, as ComfyUI reads them
    allow_pickle: bool = False  # whether pickled model files are read, by torch's reader that runs no code of theirs
    vram_budget_gb: float = 0.0  # of GPU memory for weights; 0: all but a reserve
    ram_budget_gb: float = 0.0  # of the machine's memory for weights; 0: 60 percent
    output_dir: Path | None = None  # readable copies of outputs; None: none are made
    database_url: str = ""
    store_url: str = ""
    nats_url: str = ""  # a running NATS; empty: `limner serve` starts the bundled server
    nats_server: Path | None = None  # the nats-server program to start
    pool: str = "default"
    worker_id: str = ""
    max_upload_bytes: int = 100 * MIB
    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: str = "info"

    @staticmethod
    def from_env(env: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """Settings from the environment, with `given` members (None: not given) before it.

        Raises Misconfigured, naming the setting, its value and what would be right.
        """
        env = os.environ if env is None else env
        values: dict[str, Any] = {}
        for field in dataclasses.fields(Settings):
            name = PREFIX + field.name.upper()
            if given.get(field.name) is not None:
                values[field.name] = given[field.name]
            elif env.get(name, "") != "":
                values[field.name] = _read(field.name, env[name], source=name)
        values.setdefault("data_dir", _default_data_dir())
        settings = _check(Settings(**values))
        data = settings.data_dir
        return dataclasses.replace(
            settings,
            models=_unique((data / "models", *settings.models)),
            database_url=settings.database_url or f"sqlite:///{data / 'db.sqlite'}",
            store_url=settings.store_url or (data / "blobs").as_uri(),
        )

    def to_env(self) -> dict[str, str]:
        """These settings as environment variables, for a child process.

        What is not set is empty there, so that the child never takes it from an environment that it inherits.
        """
        return {
            PREFIX + field.name.upper(): _write(field.name, getattr(self, field.name))
            for field in dataclasses.fields(self)
        }

    def check_exposure(self) -> None:
        """Refuses an address that others can reach, as there are no API keys to hold them off."""
        if not is_loopback(self.host):
            raise Misconfigured(
                f"will not listen on {self.host}: there are no API keys, so anybody who reaches this machine could use "
                "it. Use --host 127.0.0.1, and an authenticating proxy or an SSH tunnel for others"
            )

    def prepare_data_dir(self) -> None:
        """Makes the data directory with its folders. Raises Misconfigured where it cannot be written to."""
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # prompts and pictures are nobody else's
            for folder in (
                self.data_dir / "models" / "checkpoints",
                self.data_dir / "work",
                self.output_dir,
            ):
                if folder is not None:
                    folder.mkdir(parents=True, exist_ok=True)
            for folder in (self.data_dir, self.output_dir):
                if folder is not None:
                    tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            reason = _reason(error)
            raise Misconfigured(
                f"the data directory {self.data_dir} cannot be written to ({reason}); use another --data-dir"
            ) from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _default_data_dir() -> Path:
    import platformdirs

    return platformdirs.user_data_path("limner", appauthor=False)


def _port(text: str) -> int:
    number = int(text)
    if not 0 < number < 65536:
        raise ValueError("not between 1 and 65535")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("less than 1")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError("not above 0")
    return number


def _seconds_or_none(text: str) -> float:
    return 0.0 if float(text) == 0 else _seconds(text)


def _gigabytes(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError("below 0")
    return number


def _yes(text: str) -> bool:
    return {"yes": True, "no": False}[_one_of("yes", "no")(text)]


def _name(text: str) -> str:
    """What can stand in a subject of NATS and in the name of a stream or folder."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", text):
        raise ValueError("other characters")
    return text


def _cache(text: str) -> str:
    if not re.fullmatch(r"classic|none|lru=[1-9][0-9]{0,8}|ram=(?=.*[1-9])[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise ValueError("no cache policy")
    return text


def _nats_url(text: str) -> str:
    if "://" in text and not text.startswith(NATS_SCHEMES):
        raise ValueError("another scheme")
    return text


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"not one of {', '.join(allowed)}")
        return text

    return read


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(_path(part) for part in text.split(os.pathsep) if part)


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


OPTIONS = {
    "engines": "--engine",
    "starts": "--start",
    "output_dir": "--output",
    "comfyui_hang_seconds": "--comfyui-hang",
    "comfyui_free_seconds": "--comfyui-free",
    "vram_budget_gb": "--vram-budget",
    "ram_budget_gb": "--ram-budget",
}
NATS_SCHEMES = ("nats://", "tls://", "ws://", "wss://")
JOINED_BY = {"engines": " ", "starts": "\n"}

READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "data_dir": (_path, "a folder"),
    "port": (_port, "a number from 1 to 65535"),
    "workers": (_positive, "a number from 1 on"),
    "engines": (_words, "own or comfyui=URL, once or more often, with blanks between"),
    "starts": (_lines, "commands, one a line"),
    "comfyui_hang_seconds": (_seconds, "a number of seconds above 0"),
    "comfyui_free_seconds": (_seconds_or_none, "a number of seconds, 0 for never"),
    "comfyui_temp": (_yes, "yes or no"),
    "models": (_paths, f"folders, joined by {os.pathsep}"),
    "custom_nodes": (_paths, f"folders, joined by {os.pathsep}"),
    "custom_node_routes": (_yes, "yes or no"),
    "cache": (_cache, "classic, lru=N (a number from 1 on), ram=GB (a number above 0) or none"),
    "extra_model_paths": (_paths, f"files, joined by {os.pathsep}"),
    "allow_pickle": (_yes, "yes or no"),
    "vram_budget_gb": (_gigabytes, "a number of gigabytes, 0 for the default"),
    "ram_budget_gb": (_gigabytes, "a number of gigabytes, 0 for the default"),
    "output_dir": (_path, "a folder"),
    "pool": (_name, "a name of up to 100 letters, digits, _ and -"),
    "worker_id": (_name, "a name of up to 100 letters, digits, _ and -"),
    "nats_url": (_nats_url, "the URL of a NATS, such as nats://127.0.0.1:4222"),
    "nats_server": (_path, "the path of a nats-server program"),
    "max_upload_bytes": (_positive, "a number of bytes"),
    "log_format": (_one_of("auto", "json", "text"), "auto, json or text"),
    "log_level": (_one_of("debug", "info", "warning", "error"), "debug, info, warning or error"),
}


def _read(name: str, text: str, *, source: str) -> Any:
    reader, wanted = READERS.get(name, (str, "text"))
    try:
        return reader(text)
    except ValueError:
        raise Misconfigured(f"{source}={without_password(text)} is not {wanted}") from None


def without_password(text: str) -> str:
    """Text to show, with stars for the token or password of each URL in it, whatever signs that has."""
    return re.sub(r"//\S*@", "//***@", text)


def _check(settings: Settings) -> Settings:
    """What came as a value, not as text, is held to the same rules."""
    fixed: dict[str, Any] = {}
    for name in READERS.keys() - {"starts"}:  # a command may have several lines, an option knows where it ends
        value = getattr(settings, name)
        if value not in (None, (), ""):
            option = OPTIONS.get(name, "--" + name.replace("_", "-"))
            fixed[name] = _read(name, _write(name, value), source=option)
    return dataclasses.replace(settings, **fixed)


def _write(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return JOINED_BY.get(name, os.pathsep).join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _unique(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(paths))


def _reason(error: OSError) -> str:
    return f"{error.strerror}: {error.filename}" if error.strerror and error.filename else str(error)
