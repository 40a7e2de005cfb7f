"""Takes tokens out of a pool's lanes, one at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from limner.bus import subjects
from limner.bus.jetstream.connection import Connection, words
from limner.bus.jetstream.layout import ACK_WAIT_SECONDS
from limner.bus.jetstream.requests import ANSWER_SECONDS, API, Refused, Requests
from limner.bus.port import NobodyAnswers
from limner.errors import Unavailable

MOST_LISTED = 1000
"""Tokens that are looked at for the oldest one. More are out only in a pool of hundreds of workers."""


class Pulling:
    """One pool's tokens. No pull waits at the server: one that is open would die with it, and nobody would notice.

    A token comes under its own subject, so that nothing in it tells which request it answers; the client's
    request() cannot take it. One that comes after its request was given up serves the next one, while it is fresh.
    """

    def __init__(self, connection: Connection, requests: Requests, pool: str) -> None:
        self._connection = connection
        self._requests = requests
        self._pool = pool
        self._client: Client | None = None
        self._inbox = ""
        self._number = 0
        self._one_at_a_time = asyncio.Lock()
        self._came: asyncio.Queue[tuple[float, Msg]] = asyncio.Queue()

    async def pull(self, lanes: Sequence[str]) -> Msg | None:
        """The next token of the first of these lanes that has one, else the one that waits longest. None: no token."""
        for lane in lanes:
            if message := await self.pull_lane(lane):
                return message
        for lane in await self._promising(lanes):
            if message := await self.pull_lane(lane):
                return message
        return None

    async def pull_lane(self, lane: str) -> Msg | None:
        """None: nothing there, or no such lane."""
        subject = f"{API}.CONSUMER.MSG.NEXT.{subjects.stream(self._pool)}.{lane}"
        async with self._one_at_a_time:
            try:
                client = await self._listening()
                self._number += 1
                reply = f"{self._inbox}.{self._number}"
                if message := self._left_over():
                    return message
                await client.publish(subject, b'{"batch":1,"no_wait":true}', reply=reply)
                return await self._answer(reply)
            except nats.errors.Error as error:
                raise Unavailable(f"No token came from lane {lane}: {words(error)}") from error

    async def _promising(self, lanes: Sequence[str]) -> list[str]:
        """Lanes that may have a token: first of the given ones, then that of the token that waits longest first.

        A lane learns of a new token a moment after that was stored, so one that had nothing is asked again where
        there is one by now. Where all of another lane's tokens are with workers, one of them may be there for the
        second time: such lanes come before the rest.
        """
        found: dict[str, list[int]] = {}
        for number, lane in await self._tokens():
            found.setdefault(lane, []).append(number)
        if len(found) == 1 and not found.keys() & set(lanes):
            return list(found)
        taken = await asyncio.gather(*(self._taken(lane) for lane in found))
        waits_since = {
            lane: next((number for number in numbers if number > last), 0)
            for (lane, numbers), last in zip(found.items(), taken, strict=True)
        }
        again = [lane for lane in lanes if waits_since.get(lane)]
        return again + sorted((lane for lane in found if lane not in lanes), key=waits_since.__getitem__)

    async def _tokens(self) -> list[tuple[int, str]]:
        """(number, lane) of each token there is, in the order in which they were published."""
        wanted = {"seq": 1, "batch": MOST_LISTED, "next_by_subj": subjects.jobs_of(self._pool)}
        try:
            tokens = await self._requests.messages(subjects.stream(self._pool), wanted)
        except NobodyAnswers:
            return []
        headers = [token.headers or {} for token in tokens]
        return [(int(each["Nats-Sequence"]), each["Nats-Subject"].rsplit(".", 2)[1]) for each in headers]

    async def _taken(self, lane: str) -> int:
        """The number of the last token that was taken out of a lane for the first time."""
        try:
            info = await self._requests.api(f"CONSUMER.INFO.{subjects.stream(self._pool)}.{lane}", {})
        except Refused:  # the lane has expired, and the sweep makes it again
            return 0
        return int(info["delivered"]["stream_seq"])

    async def _listening(self) -> Client:
        client = self._connection.client()
        if client is not self._client:
            inbox = client.new_inbox()
            await client.subscribe(f"{inbox}.*", cb=self._hear)
            self._client, self._inbox = client, inbox
        return client

    async def _hear(self, message: Msg) -> None:
        self._came.put_nowait((time.monotonic(), message))

    def _left_over(self) -> Msg | None:
        while not self._came.empty():
            came, message = self._came.get_nowait()
            if message.data and time.monotonic() - came < ACK_WAIT_SECONDS / 3:
                return message
        return None

    async def _answer(self, reply: str) -> Msg | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while True:
                    _, message = await self._came.get()
                    if message.data:
                        return message
                    if message.subject == reply:
                        return None
        except TimeoutError:
            raise nats.errors.TimeoutError from None
