"""Keeps pages of other sites away from a server on this machine (WIRE section 1)."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def foreign(host: str | None, origin: str | None) -> bool:
    """Whether a browser sends this from a page of another origin. Told only for a Host that is a loopback name.

    Ports count where both sides have one; `Origin: null` has no host part and passes.
    """
    if not host or not origin:
        return False
    ours, theirs = _parts("//" + host), _parts(origin)
    if ours is None or not _loopback(ours[0]):
        return False
    if theirs is None:
        return True
    if not theirs[0]:
        return False
    ports_differ = ours[1] is not None and theirs[1] is not None and ours[1] != theirs[1]
    return ours[0] != theirs[0] or ports_differ


def _parts(url: str) -> tuple[str, int | None] | None:
    """Host name and port; None where it is no URL."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port
    except ValueError:
        return None


def _loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
