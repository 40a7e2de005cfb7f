"""What a worker held when it was killed: where its engine runs on, the next supervisor takes the job up again."""

from __future__ import annotations

import time
from collections.abc import Callable

from limner import logs
from limner.bus.messages import Token
from limner.bus.port import Bus, Delivery
from limner.errors import Unavailable
from limner.worker.gateway import Gateways

log = logs.get("worker")

ASK_SECONDS = 20.0  # by then the leases of all that was held have run out


async def held_before(bus: Bus, gateways: Gateways, pool: str, *, go_on: Callable[[], bool]) -> list[Delivery]:
    """The deliveries that this worker had, kept alive for another 15 s; whether they are still good the claim tells.

    Empty where no gateway answers in time: what was held is delivered again then, as of any worker that is lost.
    """
    deadline = time.monotonic() + ASK_SECONDS
    try:
        answer = await gateways.resume(go_on=lambda: go_on() and time.monotonic() < deadline)
    except Unavailable as error:
        log.warning("no gateway told which jobs this worker had", error=error.message)
        return []
    if not answer.ok:
        log.warning("the gateway did not tell which jobs this worker had", reason=answer.reason)
    return [delivery for job in answer.jobs if (delivery := await _restored(bus, pool, job)) is not None]


async def _restored(bus: Bus, pool: str, job: dict[str, str | int]) -> Delivery | None:
    token = Token(id=str(job["id"]), epoch=int(job["epoch"]))
    delivery = bus.restore(pool, str(job["delivery"]), token)
    if delivery is None:
        return None
    try:
        await delivery.in_progress()
    except Unavailable as error:
        log.debug("a lease could not be kept alive", job_id=token.id, error=error.message)
    return delivery
