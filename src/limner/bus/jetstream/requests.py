"""Questions to the server and to whoever listens behind it, and what their answers mean."""

from __future__ import annotations

import json
from typing import Any

import nats.errors
from nats.aio.msg import Msg

from limner.bus.jetstream.connection import Connection, too_large, words
from limner.bus.port import NobodyAnswers
from limner.errors import Unavailable

API = "$JS.API"
ANSWER_SECONDS = 2.0

END, NOTHING, NOBODY = "204", "404", "503"
"""How a batch ends: all told, there was nothing to tell, there is no such stream."""


class Refused(Exception):
    """JetStream answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("description", error)))
        self.code = int(error.get("err_code", 0))


class Requests:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._unanswered = 0

    @property
    def doubts(self) -> int:
        """Rises whenever the server may have lost its store: it came back, or has no stream where one should be."""
        return self._connection.times + self._unanswered

    async def api(self, subject: str, body: dict[str, Any]) -> dict[str, Any]:
        """JetStream's answer to a call of its API. Raises Refused with its error, Unavailable without an answer."""
        return await self.stream(f"{API}.{subject}", json.dumps(body).encode())

    async def stream(self, subject: str, body: bytes, *, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """JetStream's answer to a message for one of its streams. Raises as `api` does."""
        try:
            message = await self.ask(subject, body, headers=headers)
        except NobodyAnswers:  # no such stream: it is made again before the next try
            self._unanswered += 1
            raise
        answer: dict[str, Any] = json.loads(message.data)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    async def ask(
        self, subject: str, body: bytes, *, headers: dict[str, str] | None = None, timeout: float = ANSWER_SECONDS
    ) -> Msg:
        """Whatever answer comes first. Raises Unavailable, NobodyAnswers where nobody listens, PayloadTooLarge."""
        client = self._connection.client()
        try:
            return await client.request(subject, body, timeout=timeout, headers=headers)
        except nats.errors.MaxPayloadError as error:
            raise too_large(subject, body) from error
        except nats.errors.NoRespondersError as error:
            raise NobodyAnswers(f"Nobody answers on {subject}.") from error
        except nats.errors.Error as error:
            raise Unavailable(f"No answer on {subject}: {words(error)}") from error

    async def messages(self, stream: str, wanted: dict[str, Any]) -> list[Msg]:
        """Messages that a stream holds, in its order, by a batched direct get.

        Raises NobodyAnswers where there is no such stream, Unavailable where it does not tell all.
        """
        subject = f"{API}.DIRECT.GET.{stream}"
        found = await self._many(subject, json.dumps(wanted).encode())
        ended = status(found.pop())
        if ended == NOBODY:
            self._unanswered += 1
            raise NobodyAnswers(f"Nobody answers on {subject}.")
        if ended not in (END, NOTHING):
            raise Unavailable(f"JetStream does not tell what {stream} holds: status {ended}")
        return found

    async def _many(self, subject: str, body: bytes) -> list[Msg]:
        """All answers of a batched request, the last one being a message that bears nothing but a status."""
        client = self._connection.client()
        found: list[Msg] = []
        inbox = client.new_inbox()
        try:
            subscription = await client.subscribe(inbox)
            try:
                await client.publish(subject, body, reply=inbox)
                while not found or status(found[-1]) is None:
                    found.append(await subscription.next_msg(timeout=ANSWER_SECONDS))
            finally:
                await subscription.unsubscribe()
        except nats.errors.Error as error:
            raise Unavailable(f"No answer on {subject}: {words(error)}") from error
        return found


def status(message: Msg) -> str | None:
    """JetStream answers "nothing there" with an empty message that bears a status."""
    if message.data or not message.headers:
        return None
    return str(message.headers["Status"]) if "Status" in message.headers else None
