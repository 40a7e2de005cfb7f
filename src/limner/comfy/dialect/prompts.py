"""POST /prompt and GET /prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from limner.comfy.dialect.answers import json_answer
from limner.comfy.dialect.bodies import json_body
from limner.comfy.dialect.context import Dialect
from limner.comfy.dialect.shapes import queue_number
from limner.comfy.dialect.submission import Submission
from limner.errors import NotFound, WorkflowInvalid
from limner.graph.catalogue import Catalogue
from limner.graph.validate import Validated, validate
from limner.jobs.model import InputFile

THREAD_NODES = 300
"""Beyond so many nodes a workflow is checked on a thread, so that other callers are not kept waiting."""


class Prompts:
    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    async def remaining(self, _request: Request) -> Response:
        """How many jobs wait or run."""
        remaining = await self._dialect.jobs.remaining(self._dialect.tenant)
        return json_answer({"exec_info": {"queue_remaining": remaining}})

    async def submit(self, request: Request) -> Response:
        """Checks a workflow and records it as a job; it is durable before the answer leaves."""
        asked = Submission.read(await json_body(request))
        dialect = self._dialect
        catalogue = await dialect.catalogues.current(dialect.pool)
        input_files = await dialect.files.input_names(dialect.tenant) if reads_files(asked.prompt, catalogue) else ()
        validated = await self._validate(asked, catalogue, input_files)
        submitted = await dialect.jobs.submit(
            tenant=dialect.tenant,
            workflow=validated.workflow,
            outputs=validated.outputs,
            number=asked.number,
            front=asked.front,
            prompt_id=asked.prompt_id,
            client_id=asked.client_id,
            extra_data=asked.extra_data,
            inputs=await self._inputs(validated),
            models=validated.models,
        )
        job = submitted.job
        return json_answer(
            {"prompt_id": job.prompt_id, "number": queue_number(job), "node_errors": validated.node_errors}
        )

    async def _validate(self, asked: Submission, catalogue: Catalogue, input_files: Collection[str]) -> Validated:
        def check() -> Validated:
            return validate(asked.prompt, catalogue, input_files=input_files, targets=asked.targets)

        small = not isinstance(asked.prompt, dict) or len(asked.prompt) <= THREAD_NODES
        return check() if small else await asyncio.to_thread(check)

    async def _inputs(self, validated: Validated) -> list[InputFile]:
        """The files that the workflow reads. One may have gone since it was checked, or never have been an output."""
        if not validated.file_references:
            return []
        try:
            return await self._dialect.files.resolve(self._dialect.tenant, validated.file_references)
        except NotFound as error:
            raise WorkflowInvalid(
                "prompt_outputs_failed_validation", "Prompt outputs failed validation", error.message
            ) from error


def reads_files(prompt: Any, catalogue: Catalogue) -> bool:
    """Whether any node may name one of the tenant's input files; only then need they be listed."""
    if not isinstance(prompt, dict):
        return False
    classes = {node.get("class_type") for node in prompt.values() if isinstance(node, dict)}
    specs = (catalogue.nodes.get(name) for name in classes if isinstance(name, str))
    return any(each.upload for spec in specs if spec is not None for each in spec.inputs)
