"""A token in hand, known by the subject under which it is acknowledged: every connection may use that."""

from __future__ import annotations

import contextlib
import json

from limner.bus.jetstream.connection import Connection
from limner.bus.jetstream.layout import SECOND
from limner.bus.jetstream.requests import Requests
from limner.bus.messages import Token
from limner.bus.port import NobodyAnswers


class Delivery:
    """A killed server may forget how often it had delivered a token, and then tells the same subject again: hence
    `taker` in the id, which differs for each start of a process.
    """

    def __init__(self, connection: Connection, requests: Requests, token: Token, acks: str, taker: str) -> None:
        self._connection = connection
        self._requests = requests
        self._token = token
        self._acks = acks
        self._id = f"{acks} {taker}"
        self._acknowledged = False

    @property
    def token(self) -> Token:
        return self._token

    @property
    def id(self) -> str:
        return self._id

    @property
    def lane(self) -> str:
        return stream_and_lane(self._acks)[1]

    async def ack(self) -> None:
        if self._acknowledged:
            return
        with contextlib.suppress(NobodyAnswers):  # neither lane nor token exist any more
            await self._requests.ask(self._acks, b"")
        self._acknowledged = True

    async def in_progress(self) -> None:
        await self._connection.publish(self._acks, b"+WPI")

    async def nak(self, delay_seconds: float = 0.0) -> None:
        delay = json.dumps({"delay": round(delay_seconds * SECOND)}) if delay_seconds else ""
        await self._connection.publish(self._acks, f"-NAK {delay}".strip().encode())


def parts_of(delivery_id: str) -> tuple[str, str]:
    """(subject, taker) of a delivery's id."""
    acks, _, taker = delivery_id.partition(" ")
    return acks, taker


def stream_and_lane(acks: str) -> tuple[str, str]:
    """What `$JS.ACK.[DOMAIN.ACCOUNT.]STREAM.LANE.…` names; empty where it is no such subject."""
    parts = acks.split(".")
    if parts[:2] != ["$JS", "ACK"] or len(parts) < 9:
        return "", ""
    at = 2 if len(parts) == 9 else 4
    return parts[at], parts[at + 1]
