"""Where a ComfyUI is: its URL taken apart once, so that its password is never shown."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NoReturn
from urllib.parse import SplitResult, quote, unquote, urlsplit

from limner.errors import Misconfigured

DEFAULT_PORTS = {"http": 80, "https": 443}
EXAMPLE = "http://127.0.0.1:8188"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`prefix` is a path such as `/comfy`, or empty. `auth`: user and password, where the URL has them."""

    secure: bool
    host: str
    port: int
    prefix: str = ""
    auth: tuple[str, str] | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Address:
        """Reads `http[s]://[user:password@]host[:port][/prefix]`. Raises Misconfigured, which shows no password."""
        parts = _split(url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            _refuse(url, f"a ComfyUI's address looks like {EXAMPLE}")
        if "@" in parts.path:
            _refuse(url, "in a password, `/` is written %2F")
        if parts.query or parts.fragment:
            _refuse(url, "a ComfyUI's address has no `?` and no `#`")
        try:
            port = parts.port
        except ValueError:
            port = 0
        if port == 0:
            _refuse(url, "its port is not a number from 1 to 65535")
        auth = None
        if parts.username is not None:
            auth = unquote(parts.username), unquote(parts.password or "")
        return cls(
            secure=parts.scheme == "https",
            host=parts.hostname,
            port=port or DEFAULT_PORTS[parts.scheme],
            prefix=parts.path.rstrip("/"),
            auth=auth,
        )

    @property
    def base(self) -> str:
        """The URL that all paths are appended to. It holds no secrets."""
        return f"{'https' if self.secure else 'http'}://{self._place}"

    @property
    def shown(self) -> str:
        """For logs and messages."""
        return self.base

    def ws(self, client_id: str) -> str:
        """The address of the socket for a client of this id."""
        return f"{'wss' if self.secure else 'ws'}://{self._place}/ws?clientId={quote(client_id, safe='')}"

    def worker_id(self) -> str:
        """A name for the worker that drives it, the same after every restart: `comfyui-10-0-0-5-8188`."""
        host = socket.gethostname() if _is_loopback(self.host) else self.host
        name = re.sub(r"[^a-z0-9]+", "-", f"{host}-{self.port}{self.prefix}".lower())
        return f"comfyui-{name.strip('-')}"

    @property
    def _place(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}{self.prefix}"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url.strip())
    except ValueError as error:  # such as a bracket that is not closed
        _refuse(url, str(error))


def _refuse(url: str, why: str) -> NoReturn:
    shown = re.sub(r"//.*@", "//***@", url, flags=re.DOTALL)
    raise Misconfigured(f"{shown!r} is no address of a ComfyUI: {why}")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
