"""Jobs as ComfyUI shows them in its queue and history."""

from __future__ import annotations

from typing import Any

from limner.comfy.dialect.endings import closing
from limner.jobs.model import Job, State


def queue_number(job: Job) -> int | float:
    """A whole number where the server counted, the caller's own as a float."""
    return job.number if job.number_given else int(job.number)


def queue_item(job: Job) -> list[Any]:
    """`[number, prompt_id, prompt, extra_data, outputs]`"""
    return [queue_number(job), job.prompt_id, job.workflow, job.extra_data, list(job.outputs)]


def history_entry(job: Job) -> dict[str, Any]:
    """A job that has ended."""
    result = job.result or {}
    done = job.state is State.SUCCEEDED
    return {
        "prompt": queue_item(job),
        "outputs": result.get("outputs", {}),
        "status": {"status_str": "success" if done else "error", "completed": done, "messages": _messages(job)},
        "meta": result.get("meta", {}),
    }


def _messages(job: Job) -> list[Any]:
    """What the run told, and its end, be it made up."""
    messages = [list(message) for message in job.messages]
    end = list(closing(job.prompt_id, job.state, messages, job.error))
    return messages if end in messages else [*messages, end]
