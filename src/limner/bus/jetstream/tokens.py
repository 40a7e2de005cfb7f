"""Jobs' tokens in a pool's stream: put there, taken back, listed."""

from __future__ import annotations

from collections.abc import Iterable

from limner.bus import subjects
from limner.bus.jetstream.layout import Layout
from limner.bus.jetstream.requests import API, Refused, Requests, status
from limner.bus.messages import Token
from limner.errors import Unavailable

NO_SUCH_STREAM = 10059
SUBJECT_TAKEN = 10077


class Tokens:
    def __init__(self, requests: Requests, layout: Layout) -> None:
        self._requests = requests
        self._layout = layout

    async def publish(self, pool: str, lane: str, token: Token) -> None:
        """Durable when this returns. A token of an older epoch is replaced, a newer one stays."""
        await self._layout.ensure_lane(pool, lane)
        subject = subjects.job(pool, lane, token.id)
        headers = {"Nats-Msg-Id": f"{token.id}.{token.epoch}"}
        for _ in range(3):
            try:
                await self._requests.stream(subject, token.encode(), headers=headers)
            except Refused as error:
                if error.code != SUBJECT_TAKEN:
                    raise Unavailable(f"JetStream refused the token of job {token.id}: {error}") from error
                if not await self._made_room(pool, subject, token):
                    return
            else:
                return
        raise Unavailable(f"The token of job {token.id} keeps meeting another one.")

    async def _made_room(self, pool: str, subject: str, token: Token) -> bool:
        """Removes an older token from the subject. False: one that is as new is there already."""
        stream = subjects.stream(pool)
        present = await self._requests.ask(f"{API}.DIRECT.GET.{stream}.{subject}", b"")
        if status(present) is None and Token.decode(present.data).epoch >= token.epoch:
            return False
        try:
            await self._requests.api(f"STREAM.PURGE.{stream}", {"filter": subject})
        except Refused as error:
            raise Unavailable(f"JetStream did not remove an older token of job {token.id}: {error}") from error
        return True

    async def purge(self, pool: str, lane: str, job_id: str) -> None:
        wanted = {"filter": subjects.job(pool, lane, job_id)}
        try:
            await self._requests.api(f"STREAM.PURGE.{subjects.stream(pool)}", wanted)
        except Refused as error:
            if error.code != NO_SUCH_STREAM:
                raise Unavailable(f"JetStream did not purge the token of job {job_id}: {error}") from error

    async def pending(self, pool: str) -> dict[str, str]:
        """The lane of every job that has a token, delivered ones included."""
        await self._layout.ensure_jobs(pool)
        wanted = {"subjects_filter": subjects.jobs_of(pool)}
        try:
            info = await self._requests.api(f"STREAM.INFO.{subjects.stream(pool)}", wanted)
        except Refused as error:
            self._layout.forget()
            raise Unavailable(f"JetStream does not list the tokens of pool {pool}: {error}") from error
        state = info["state"]
        found = state.get("subjects") or {}
        if len(found) != state.get("num_subjects", 0):
            raise Unavailable(f"JetStream listed {len(found)} of {state['num_subjects']} tokens only.")
        parts = (subject.rsplit(".", 2) for subject in found)
        return {job_id: lane for _, lane, job_id in parts}

    async def ensure_lanes(self, pool: str, lanes: Iterable[str]) -> None:
        for lane in lanes:
            await self._layout.ensure_lane(pool, lane, surely=True)
