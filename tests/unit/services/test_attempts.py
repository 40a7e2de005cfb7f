"""Claims, reservations and ends, each asked twice as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from limner.bus.messages import Claim, Claimed, Done, Reserve
from limner.jobs.model import State
from tests.support.durable import WORKFLOW, Durable, durable

T = "default"


async def begin(d: Durable, prompt_id: str = "p", **more: Any) -> tuple[Any, Claimed]:
    await d.submit(prompt_id, **more)
    taken = await d.take()
    assert taken is not None
    return taken


def ask(job_id: str, claimed: Claimed, **changes: Any) -> Reserve:
    fields: dict[str, Any] = {"call": 0, "subfolder": "", "prefix": "ComfyUI", "extension": ".png", "count": 1}
    return Reserve(id=job_id, token=claimed.token, **(fields | changes))


async def names(d: Durable, job_id: str, claimed: Claimed, **changes: Any) -> list[str]:
    reserved = await d.attempts.reserve(ask(job_id, claimed, **changes))
    assert reserved.ok, reserved.reason
    return [name["filename"] for name in reserved.names]


def written(reserved: dict[str, str], size: int = 3) -> dict[str, Any]:
    return {**reserved, "type": "output", "size_bytes": size, "sha256": "0" * 64}


async def test_a_claim_gives_all_that_the_worker_needs(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        d.presence.came(T, "c")
        delivery, claimed = await begin(d, models=["m"], extra_data={"x": 1})
        assert (claimed.attempt, claimed.tenant, claimed.prompt_id, claimed.client_id) == (1, T, "p", "c")
        assert (claimed.workflow, claimed.outputs, claimed.extra_data) == (WORKFLOW, ["1"], {"x": 1})
        assert claimed.key_prefix.startswith(f"t/{T}/jobs/")
        assert claimed.key_prefix.endswith(f"/{delivery.token.id}/{claimed.token}/")
        assert claimed.watched


async def test_a_claim_asked_twice_is_one_attempt(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        delivery, claimed = await begin(d)
        d.heard.clear()
        again = await d.claim(delivery)
        assert again == claimed
        assert d.heard == []


async def test_a_claim_of_an_unknown_job_is_refused(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        assert not (await d.attempts.claim(Claim(id="x", epoch=0, worker="w", delivery="d"))).ok
        assert not (await d.attempts.done(Done(id="x", token="t", outcome="succeeded"))).ok
        assert not (await d.attempts.reserve(ask("x", Claimed(ok=True, token="t")))).ok


async def test_an_end_told_twice_is_one_end(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        delivery, claimed = await begin(d)
        assert (await d.end(delivery, claimed)).ok
        assert (await d.end(delivery, claimed)).ok
        assert d.kinds().count("Ended") == 1
        assert await d.jobs.remaining(T) == 0


async def test_a_late_end_after_a_takeover_is_refused(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        delivery, first = await begin(d)
        await delivery.nak()
        second = await d.take("w2")
        assert second is not None
        assert second[1].attempt == 2
        late = await d.attempts.done(Done(id=delivery.token.id, token=first.token, outcome="succeeded"))
        assert not late.ok
        assert (await d.end(*second)).ok


async def test_the_log_tells_why_a_job_runs_again_and_whose_it_was(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await d.submit()
        taken = await d.take("comfy-1")
        assert taken is not None
        with capture_logs() as lines:
            error = {"code": "worker_lost", "retryable": True, "exception_message": "the ComfyUI is gone\n"}
            await d.end(*taken, outcome="failed", error=error)
        [back] = [line for line in lines if line.get("status") == "queued"]
        assert (back["error"], back["worker"]) == ("the ComfyUI is gone", "comfy-1")


async def test_a_retryable_failure_waits_and_a_nodes_exception_does_not(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        taken = await begin(d, "again")
        await d.end(*taken, outcome="failed", error={"code": "upload_failed", "retryable": True})
        assert await d.take() is None
        assert [job.state for job in (await d.jobs.queue(T)).pending] == [State.QUEUED]
        taken = await begin(d, "never")
        await d.end(*taken, outcome="failed", error={"code": "node_error", "retryable": False})
        entry = await d.jobs.history_entry(T, "never")
        assert entry is not None
        assert entry.error == {"code": "node_error", "retryable": False}


async def test_a_returned_job_is_next_again(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        taken = await begin(d)
        assert (await d.end(*taken, outcome="returned")).ok
        again = await d.take()
        assert again is not None
        assert again[1].attempt == 1
        assert not (await d.attempts.done(Done(id=taken[0].token.id, token=taken[1].token, outcome="succeeded"))).ok


async def test_names_count_up_over_jobs(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        delivery, claimed = await begin(d)
        assert await names(d, delivery.token.id, claimed, count=2) == ["ComfyUI_00001_.png", "ComfyUI_00002_.png"]
        assert await names(d, delivery.token.id, claimed, call=1, prefix="b") == ["b_00001_.png"]
        assert await names(d, delivery.token.id, claimed, call=2, subfolder="x/y") == ["ComfyUI_00001_.png"]
        await d.end(delivery, claimed)
        delivery, claimed = await begin(d)
        assert await names(d, delivery.token.id, claimed) == ["ComfyUI_00003_.png"]


async def test_tenants_have_names_of_their_own(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        for tenant in ("a", "b"):
            delivery, claimed = await begin(d, tenant=tenant)
            assert await names(d, delivery.token.id, claimed) == ["ComfyUI_00001_.png"]


async def test_the_first_use_begins_above_the_files_that_are_there(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def existing(subfolder: str, prefix: str) -> int:
        asked.append((subfolder, prefix))
        return 41

    async with durable(tmp_path, existing_number=existing) as d:
        delivery, claimed = await begin(d)
        assert await names(d, delivery.token.id, claimed, subfolder="s") == ["ComfyUI_00042_.png"]
        assert await names(d, delivery.token.id, claimed, subfolder="s", call=1) == ["ComfyUI_00043_.png"]
        assert asked == [("s", "ComfyUI")]


async def test_another_attempt_gets_the_same_names_under_its_own_keys(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        delivery, first = await begin(d)
        before = await d.attempts.reserve(ask(delivery.token.id, first, count=2))
        await delivery.nak()
        taken = await d.take("w2")
        assert taken is not None
        delivery, second = taken
        after = await d.attempts.reserve(ask(delivery.token.id, second, count=2))
        assert [n["filename"] for n in after.names] == [n["filename"] for n in before.names]
        assert all(n["key"].startswith(second.key_prefix) for n in after.names)
        assert len({n["key"] for n in after.names}) == 2
        assert not (await d.attempts.reserve(ask(delivery.token.id, first))).ok
        other = await d.attempts.reserve(ask(delivery.token.id, second, count=1))
        assert [n["filename"] for n in other.names] == ["ComfyUI_00003_.png"]


async def test_the_same_question_again_has_the_same_answer(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        delivery, claimed = await begin(d)
        assert await d.attempts.reserve(ask(delivery.token.id, claimed)) == await d.attempts.reserve(
            ask(delivery.token.id, claimed)
        )


async def test_a_picture_in_a_batch_may_bear_its_number(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        delivery, claimed = await begin(d)
        assert await names(d, delivery.token.id, claimed, prefix="a%batch_num%", count=2) == [
            "a0_00001_.png",
            "a1_00002_.png",
        ]
        assert await names(d, delivery.token.id, claimed, prefix="a0", call=1) == ["a0_00002_.png"]


async def test_a_name_that_was_uploaded_is_passed_over(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await d.files.upload(T, folder="output", subfolder="", filename="ComfyUI_00002_.png", data=b"mine")
        delivery, claimed = await begin(d)
        assert await names(d, delivery.token.id, claimed, count=3) == [f"ComfyUI_0000{n}_.png" for n in (1, 3, 4)]


async def test_files_can_be_found_once_the_end_is_committed(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        delivery, claimed = await begin(d)
        reserved = await d.attempts.reserve(ask(delivery.token.id, claimed, count=2))
        find = {"type": "output", "subfolder": "", "filename": reserved.names[0]["filename"]}
        assert await d.files.find(T, **find) is None
        temp = {"key": "t", "filename": "x.png", "subfolder": "", "type": "temp", "size_bytes": 1, "sha256": "0"}
        await d.end(delivery, claimed, files=[written(reserved.names[0]), temp])
        found = await d.files.find(T, **find)
        assert found is not None
        assert (found.key, found.size_bytes) == (reserved.names[0]["key"], 3)
        assert await d.files.find("another", **find) is None
        uploaded = await d.files.upload(
            T, folder="output", subfolder="", filename=reserved.names[1]["filename"], data=b"x"
        )
        assert uploaded["name"] == reserved.names[1]["filename"], "a name that was never written is free again"


async def test_a_file_can_be_found_as_soon_as_it_is_stored(tmp_path: Path) -> None:
    """A client asks for it when it hears of it, long before the job ends (docs/decisions/0004)."""
    async with durable(tmp_path) as d:
        delivery, claimed = await begin(d)
        reserved = await d.attempts.reserve(ask(delivery.token.id, claimed))
        find = {"type": "output", "subfolder": "", "filename": reserved.names[0]["filename"]}
        assert await d.files.find(T, **find) is None
        await d.blobs.put(reserved.names[0]["key"], b"picture")
        found = await d.files.find(T, **find)
        assert found is not None
        assert (found.key, found.size_bytes) == (reserved.names[0]["key"], 7)
        assert await d.files.find("another", **find) is None


async def test_files_of_an_attempt_that_is_repeated_are_not_kept_yet(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        delivery, claimed = await begin(d)
        reserved = await d.attempts.reserve(ask(delivery.token.id, claimed))
        error = {"code": "upload_failed", "retryable": True}
        await d.end(delivery, claimed, outcome="failed", error=error, files=[written(reserved.names[0])])
        assert await d.files.find(T, type="output", subfolder="", filename=reserved.names[0]["filename"]) is None


@pytest.mark.parametrize(
    "bad",
    [
        {"count": 0},
        {"count": 10**9},
        {"extension": "../x"},
        {"extension": ".p/g"},
        {"prefix": "../up"},
        {"prefix": "a/b"},
        {"subfolder": "../up"},
        {"subfolder": "/root"},
        {"subfolder": "a//b"},
    ],
)
async def test_bad_reservations_are_refused_with_a_reason(tmp_path: Path, bad: dict[str, Any]) -> None:
    async with durable(tmp_path) as d:
        delivery, claimed = await begin(d)
        reserved = await d.attempts.reserve(ask(delivery.token.id, claimed, **bad))
        assert not reserved.ok
        assert reserved.reason
