"""Keeps pages of other sites away from a server on this machine (WIRE section 1)."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def foreign(host: str | None, origin: str | None, *, reads_only: bool) -> bool:
    """Whether a browser sends this from a page of another origin. Told only for a Host that means this machine.

    Ports count where both sides have one. `Origin: null` (a sandboxed frame: any page can make one) has no host part:
    it may read, as with ComfyUI, where no browser shows it the answer; it may change nothing and get no socket.
    """
    if not host or not origin:
        return False
    ours, theirs = _parts("//" + host), _parts(origin)
    if ours is None or not _this_machine(ours[0]):
        return False
    if theirs is None:
        return True
    if not theirs[0]:
        return not reads_only
    ports_differ = ours[1] is not None and theirs[1] is not None and ours[1] != theirs[1]
    return ours[0] != theirs[0] or ports_differ


def _parts(url: str) -> tuple[str, int | None] | None:
    """Host name and port; None where it is no URL."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port
    except ValueError:
        return None


def _this_machine(name: str) -> bool:
    """Whether a browser reaches its own machine under this name or address, in any of their spellings."""
    name = name.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified
