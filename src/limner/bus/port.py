"""The bus: how gateways and workers reach each other. One adapter speaks NATS, one in memory serves the tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from limner.bus.messages import Heartbeat, Message, Token
from limner.errors import Unavailable

M = TypeVar("M", bound=Message)

Listener = Callable[[str, bytes], Awaitable[None]]
"""Gets the subject and the body of each message. What it raises is logged, and the next message comes all the same."""

Responder = Callable[[bytes], Awaitable[Message]]
"""Gets a request's body and gives the answer."""


class NobodyAnswers(Unavailable):
    """The bus is there, but nobody serves the subject."""


class Delivery(Protocol):
    """A token handed to this process alone, until it is acknowledged or its 15 s pass without a sign of life."""

    @property
    def token(self) -> Token: ...

    @property
    def id(self) -> str:
        """Differs for every delivery, also for the same token delivered again. `Bus.restore` reads it."""
        ...

    @property
    def lane(self) -> str: ...

    async def ack(self) -> None:
        """Done with the token: it is gone once this returns.

        Raises Unavailable when no answer came, which need not be tried again: a token that is still there is
        delivered again and refused by the claim. (A server that was killed may not know the delivery any more.)
        """
        ...

    async def in_progress(self) -> None:
        """Keeps the token for another 15 s. Cheap: it waits for no answer."""
        ...

    async def nak(self, delay_seconds: float = 0.0) -> None:
        """Gives the token back, to be delivered again after the delay."""
        ...


class Subscription(Protocol):
    async def stop(self) -> None: ...


class Bus(Protocol):
    """All calls raise Unavailable when the other side does not answer; none ever answers with an empty lie.

    A message of more than 8 MB raises PayloadTooLarge.
    """

    @property
    def connected(self) -> bool: ...

    async def publish_token(self, pool: str, lane: str, token: Token) -> None:
        """Puts a job's token into its lane, durable when this returns, and wakes the pool's workers.

        Repeating it is harmless. A token of an older epoch under the same job is replaced, a newer one stays.
        """
        ...

    async def purge(self, pool: str, lane: str, job_id: str) -> None:
        """Takes back the job's token, whether or not there is one."""
        ...

    async def pending(self, pool: str) -> dict[str, str]:
        """Every job id that has a token now, delivered ones included, with its lane."""
        ...

    async def ensure_lanes(self, pool: str, lanes: Iterable[str]) -> None:
        """Makes again whatever these lanes need that is no longer there."""
        ...

    async def pull(self, pool: str, lanes: Sequence[str]) -> Delivery | None:
        """The next token: of the first of `lanes` that has one, else of any lane of the pool. None: nothing waits."""
        ...

    def restore(self, pool: str, delivery_id: str, token: Token) -> Delivery | None:
        """A delivery that another process got before it ended, as it was; nothing is asked for it.

        It keeps its token alive while nobody else got that delivered; what others hold now is the claim's to tell.
        None: the id is not one of this pool's.
        """
        ...

    async def wake(self, pool: str, lane: str) -> None: ...

    async def wait_wake(self, pool: str, timeout: float) -> str | None:
        """Waits until a token may be there, and tells its lane; None after `timeout` seconds.

        A wake that came since the last call counts, so that none falls between a pull and a wait. A reconnect
        wakes as well (with lane ""), since wakes may have been lost before it.
        """
        ...

    async def request(self, subject: str, message: Message, answer: type[M], timeout: float) -> M:
        """The answer of whoever serves the subject. Raises NobodyAnswers, and Unavailable where none came in time."""
        ...

    async def serve(self, subject: str, queue_group: str, responder: Responder) -> Subscription:
        """Answers requests, each by one member of the queue group, many at once."""
        ...

    async def publish(self, subject: str, body: bytes) -> None:
        """Sends without waiting; lossy. Order per subject is kept."""
        ...

    async def subscribe(self, subject: str, listener: Listener) -> Subscription:
        """`subject` may hold `*` (one part) and end in `>` (the rest). The listener is called one message at a time."""
        ...

    async def put_worker(self, heartbeat: Heartbeat) -> None:
        """Shows a worker for 15 s."""
        ...

    async def drop_worker(self, worker: str) -> None: ...

    async def workers(self) -> list[Heartbeat]:
        """Those seen within 15 s, by name."""
        ...

    async def close(self) -> None: ...
