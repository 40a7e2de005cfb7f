"""Files that an engine has named itself, on a real database: each keeps its name unless that would show other bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limner.bus.messages import Claimed, Keep, Reserve
from tests.support.durable import Durable, durable

T = "default"
ONE, TWO, THREE = ("1" * 64, "2" * 64, "3" * 64)


async def begin(d: Durable, prompt_id: str = "p", **more: Any) -> tuple[Any, Claimed]:
    await d.submit(prompt_id, **more)
    taken = await d.take()
    assert taken is not None
    return taken


async def keep(d: Durable, taken: tuple[Any, Claimed], *files: tuple[str, str], subfolder: str = "") -> list[Any]:
    """The answers for files of (filename, sha256)."""
    named = [{"subfolder": subfolder, "filename": name, "sha256": sha256} for name, sha256 in files]
    answer = await d.attempts.keep(Keep(id=taken[0].token.id, token=taken[1].token, files=named))
    assert answer.ok, answer.reason
    return answer.names


async def name(d: Durable, taken: tuple[Any, Claimed], filename: str, sha256: str = ONE, **more: Any) -> str:
    [kept] = await keep(d, taken, (filename, sha256), **more)
    return str(kept["filename"])


async def finish(d: Durable, taken: tuple[Any, Claimed], *kept: tuple[dict[str, str], str]) -> None:
    """Ends the job with these files of (answer, sha256) written."""
    files = [
        {**answer, "type": "output", "size_bytes": 3, "sha256": sha256} for answer, sha256 in kept if answer["key"]
    ]
    assert (await d.end(*taken, files=files)).ok


async def made(d: Durable, filename: str, sha256: str = ONE, **more: Any) -> dict[str, str]:
    """A file of an earlier job, and how that was answered."""
    taken = await begin(d)
    [kept] = await keep(d, taken, (filename, sha256), **more)
    await finish(d, taken, (kept, sha256))
    return kept


async def again(d: Durable, taken: tuple[Any, Claimed]) -> tuple[Any, Claimed]:
    """The next attempt of the same job, on another worker."""
    await taken[0].nak()
    second = await d.take("w2")
    assert second is not None
    return second


async def test_a_free_name_is_kept_and_its_key_tells_the_bytes(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        taken = await begin(d)
        [kept] = await keep(d, taken, ("ComfyUI_00001_.png", ONE), subfolder="a/b")
        key = f"{taken[1].key_prefix}{ONE[:32]}.png"
        assert kept == {"filename": "ComfyUI_00001_.png", "subfolder": "a/b", "key": key}
        await finish(d, taken, (kept, ONE))
        found = await d.files.find(T, type="output", subfolder="a/b", filename="ComfyUI_00001_.png")
        assert found is not None
        assert (found.key, found.size_bytes) == (key, 3)


async def test_the_same_question_again_has_the_same_answer(tmp_path: Path) -> None:
    """Also for a name that was taken, where every question would find another number free."""
    async with durable(tmp_path) as d:
        await made(d, "x_00001_.png")
        await made(d, "y.mp4")
        taken = await begin(d)
        files = [("x_00001_.png", TWO), ("y.mp4", TWO), ("z.txt", TWO)]
        assert await keep(d, taken, *files) == await keep(d, taken, *files)


async def test_bytes_that_are_there_under_the_name_need_no_copy(tmp_path: Path) -> None:
    """A ComfyUI answers a job from its cache with the file of an earlier one."""
    async with durable(tmp_path) as d:
        await made(d, "x_00001_.png")
        taken = await begin(d)
        [kept] = await keep(d, taken, ("x_00001_.png", ONE))
        assert kept == {"filename": "x_00001_.png", "subfolder": "", "key": ""}


async def test_a_taken_numbered_name_gets_the_next_number(tmp_path: Path) -> None:
    """Two instances each count for themselves."""
    async with durable(tmp_path) as d:
        await made(d, "x_00001_.png")
        await made(d, "x_00007_.png")
        taken = await begin(d)
        assert await name(d, taken, "x_00001_.png", TWO) == "x_00008_.png"
        assert await name(d, taken, "x_00002_.png", TWO) == "x_00002_.png"
        assert await name(d, taken, "x_00007_.png", THREE) == "x_00009_.png"


async def test_names_that_are_kept_are_counted_for_those_that_are_not(tmp_path: Path) -> None:
    """Limner's own engine beside a ComfyUI in one pool."""
    async with durable(tmp_path) as d:
        taken = await begin(d)
        await name(d, taken, "x_00005_.png")
        asked = Reserve(
            id=taken[0].token.id, token=taken[1].token, call=0, subfolder="", prefix="x", extension=".png", count=1
        )
        assert [each["filename"] for each in (await d.attempts.reserve(asked)).names] == ["x_00006_.png"]


async def test_a_number_in_the_readable_folder_is_not_given_again(tmp_path: Path) -> None:
    async with durable(tmp_path, existing_number=lambda _subfolder, _prefix: 41) as d:
        await made(d, "x_00001_.png")
        assert await name(d, await begin(d), "x_00001_.png", TWO) == "x_00042_.png"


async def test_another_taken_name_gets_a_number_behind_its_stem(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await made(d, "video.mp4")
        await made(d, "video (1).mp4")
        await made(d, "plain")
        taken = await begin(d)
        assert await name(d, taken, "video.mp4", TWO) == "video (2).mp4"
        assert await name(d, taken, "video.mp4", THREE) == "video (3).mp4"
        assert await name(d, taken, "plain", TWO) == "plain (1)"


async def test_a_long_name_with_a_number_is_not_too_long(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        long = "ü" * 125 + ".webm"
        await made(d, long)
        got = await name(d, await begin(d), long, TWO)
        assert got.endswith(" (1).webm")
        assert len(got.encode()) <= 255


async def test_an_uploaded_file_is_in_nobodys_way(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await d.files.upload(T, folder="output", subfolder="", filename="x_00001_.png", data=b"mine")
        assert await name(d, await begin(d), "x_00001_.png") == "x_00002_.png"


async def test_the_same_name_with_other_bytes_in_one_run_is_another_file(tmp_path: Path) -> None:
    """A node that writes its file anew each time: what was shown first stays what it was."""
    async with durable(tmp_path) as d:
        taken = await begin(d)
        kept = await keep(d, taken, ("a.png", ONE), ("a.png", TWO), ("a.png", ONE))
        assert [each["filename"] for each in kept] == ["a.png", "a (1).png", "a.png"]
        assert kept[0] == kept[2]


async def test_equal_files_of_two_nodes_keep_their_names(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await made(d, "x_00001_.png", THREE)
        await made(d, "x_00002_.png", THREE)
        kept = await keep(d, await begin(d), ("x_00001_.png", ONE), ("x_00002_.png", ONE))
        assert [each["filename"] for each in kept] == ["x_00003_.png", "x_00004_.png"]


async def test_a_name_that_another_job_has_reserved_is_taken(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        first = await begin(d, "p")
        second = await begin(d, "q")
        assert await name(d, first, "x_00001_.png", ONE) == "x_00001_.png"
        assert await name(d, second, "x_00001_.png", ONE) == "x_00002_.png", "its bytes may never come"


async def test_another_attempt_takes_over_what_an_earlier_one_reserved(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await made(d, "x_00001_.png")
        first = await begin(d)
        files = [("x_00001_.png", TWO), ("a.png", TWO)]
        before = await keep(d, first, *files)
        second = await again(d, first)
        after = await keep(d, second, ("x_00001_.png", THREE), ("a.png", TWO))
        assert [each["filename"] for each in after] == [each["filename"] for each in before]
        assert all(each["key"].startswith(second[1].key_prefix) for each in after)
        await finish(d, second, (after[0], THREE), (after[1], TWO))
        found = await d.files.find(T, type="output", subfolder="", filename="a.png")
        assert found is not None
        assert found.key == after[1]["key"]


async def test_another_attempt_may_have_the_name_that_an_earlier_one_was_given(tmp_path: Path) -> None:
    """The first instance's 1 became 2; the second one calls its file 2 itself."""
    async with durable(tmp_path) as d:
        await made(d, "x_00001_.png")
        first = await begin(d)
        assert await name(d, first, "x_00001_.png", TWO) == "x_00002_.png"
        second = await again(d, first)
        [kept] = await keep(d, second, ("x_00002_.png", THREE))
        assert (kept["filename"], kept["key"].startswith(second[1].key_prefix)) == ("x_00002_.png", True)
        assert await keep(d, second, ("x_00002_.png", THREE)) == [kept]


async def test_names_that_were_never_written_are_free_again(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        taken = await begin(d)
        assert await name(d, taken, "a.png") == "a.png"
        await finish(d, taken)
        assert await name(d, await begin(d), "a.png", TWO) == "a.png"


async def test_tenants_have_names_of_their_own(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        for tenant in ("a", "b"):
            assert await name(d, await begin(d, tenant=tenant), "x_00001_.png", ONE) == "x_00001_.png"


async def test_names_are_for_the_attempt_that_has_the_job(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        first = await begin(d)
        second = await again(d, first)
        named = [{"subfolder": "", "filename": "a.png", "sha256": ONE}]
        for job, token in ((first[0].token.id, first[1].token), ("unknown", second[1].token)):
            answer = await d.attempts.keep(Keep(id=job, token=token, files=named))
            assert not answer.ok
            assert answer.reason


@pytest.mark.parametrize(
    "bad",
    [
        {"filename": ""},
        {"filename": "../up.png"},
        {"filename": "a\x00.png"},
        {"filename": "ü" * 200},
        {"subfolder": "../up"},
        {"subfolder": "/root"},
        {"sha256": "short"},
    ],
)
async def test_what_cannot_be_a_name_is_refused_with_a_reason(tmp_path: Path, bad: dict[str, str]) -> None:
    async with durable(tmp_path) as d:
        delivery, claimed = await begin(d)
        named = {"subfolder": "", "filename": "a.png", "sha256": ONE, **bad}
        answer = await d.attempts.keep(Keep(id=delivery.token.id, token=claimed.token, files=[named]))
        assert not answer.ok
        assert answer.reason


async def test_a_folder_is_given_back_in_one_spelling(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        [kept] = await keep(d, await begin(d), ("a.png", ONE), subfolder="a//b/")
        assert kept["subfolder"] == "a/b"
