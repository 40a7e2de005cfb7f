"""POST /prompt and GET /prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from starlette.requests import Request
from starlette.responses import Response

from limner.comfy.dialect.answers import json_answer
from limner.comfy.dialect.bodies import json_body
from limner.comfy.dialect.context import Dialect
from limner.comfy.dialect.questions import Questions
from limner.comfy.dialect.shapes import queue_number
from limner.comfy.dialect.submission import Submission
from limner.errors import Conflict, NotFound, Unavailable, WorkflowInvalid, WorkflowIsEditorFormat
from limner.graph.catalogue import Catalogue
from limner.graph.literals import split_mark
from limner.graph.references import named_files
from limner.graph.validate import Validated, validate
from limner.graph.walk import CustomCheck
from limner.jobs.model import InputFile

TOO_EARLY = "The first worker is starting, and has not said yet which nodes and models it has. Try again soon."

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
        input_files = await self._input_files(named_files(asked.prompt, catalogue))
        try:
            validated = await self._validate(asked, catalogue, input_files)
        except WorkflowIsEditorFormat:
            raise
        except WorkflowInvalid as fault:
            if await dialect.catalogues.awaited(dialect.pool):
                raise Unavailable(f"{TOO_EARLY} (Until then: {fault.message})") from fault
            raise
        try:
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
        except Conflict as error:
            raise WorkflowInvalid("prompt_id_in_use", error.message, asked.prompt_id) from error
        job = submitted.job
        return json_answer(
            {"prompt_id": job.prompt_id, "number": queue_number(job), "node_errors": validated.node_errors}
        )

    async def _input_files(self, references: Collection[str]) -> list[str]:
        """The tenant's files as far as the workflow may name them: all of the input folder, of others those it names.

        Nothing is looked up for a workflow that names no file.
        """
        if not references:
            return []
        files, tenant = self._dialect.files, self._dialect.tenant
        elsewhere = [each for each in references if split_mark(each)[1] in ("output", "temp")]
        return await files.input_names(tenant) + await files.present(tenant, elsewhere)

    async def _validate(self, asked: Submission, catalogue: Catalogue, input_files: Collection[str]) -> Validated:
        """Twice where node classes have code of their own that checks inputs: to hear what it is to be asked, and with
        its answers.
        """
        prompt = asked.prompt
        small = not isinstance(prompt, dict) or len(prompt) <= THREAD_NODES

        async def checked(ask: CustomCheck | None) -> Validated:
            def check() -> Validated:
                return validate(prompt, catalogue, input_files=input_files, targets=asked.targets, custom_check=ask)

            return check() if small else await asyncio.to_thread(check)

        questions = Questions()
        try:
            validated = await checked(questions.ask)
        except WorkflowInvalid:
            if not questions.asked:
                raise
        else:
            if not questions.asked:
                return validated
        dialect = self._dialect
        return await checked(questions.answered(await dialect.catalogues.verdicts(dialect.pool, questions.asked)))

    async def _inputs(self, validated: Validated) -> list[InputFile]:
        """The files that the workflow reads. One may have gone since it was checked."""
        if not validated.file_references:
            return []
        try:
            return await self._dialect.files.resolve(self._dialect.tenant, validated.file_references)
        except NotFound as error:
            raise WorkflowInvalid(
                "prompt_outputs_failed_validation", "Prompt outputs failed validation", error.message
            ) from error
