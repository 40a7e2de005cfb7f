"""The socket that the gateway answers on."""

from __future__ import annotations

import socket

from limner.errors import Misconfigured

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises Misconfigured where the address or the port is not to be had."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise Misconfigured(f"cannot listen on {host}: {error.strerror}") from error
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Misconfigured(f"port {port} on {host} cannot be used ({error.strerror}); use another --port") from error
    listener.setblocking(False)
    return listener
