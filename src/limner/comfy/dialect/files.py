"""/view and /upload: files out and in."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from limner.comfy.dialect import pictures
from limner.comfy.dialect.answers import empty, json_answer
from limner.comfy.dialect.bodies import an_object, parse
from limner.comfy.dialect.context import Dialect
from limner.comfy.dialect.names import FileName, OutsideFolder, disposition
from limner.comfy.dialect.ranges import Unsatisfiable, wanted_part
from limner.errors import BadImage, BadName, Invalid, NotFound
from limner.graph.file_types import content_type
from limner.services.files import StoredFile

WHOLE_BYTES = 1024 * 1024
"""Files up to this size are answered in one piece, and uploads up to it are held in memory."""

PICTURE_BYTES = 256 * 1024 * 1024

CONVERSIONS = 2
"""So many pictures are converted at once: each may take some hundred megabytes for a moment."""


class Files:
    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._converting = asyncio.Semaphore(CONVERSIONS)

    async def view(self, request: Request) -> Response:
        """A file's bytes, or the picture in it in another form. Faults are answered without a body, as ComfyUI does."""
        query = request.query_params
        try:
            name = FileName.read(query)
            stored = await self._find(name)
        except (NotFound, BadName, OutsideFolder) as error:
            return empty(error.status)
        headers = {"content-disposition": disposition(name.filename), "x-content-type-options": "nosniff"}
        if "preview" in query or query.get("channel") in ("rgb", "a"):
            picture = await self._converted(stored, query)
            if picture is not None:
                return Response(picture.data, headers={**headers, "content-type": picture.content_type})
        return await self._file(request, stored, {**headers, "content-type": content_type(name.filename)})

    async def upload_image(self, request: Request) -> Response:
        """Keeps an uploaded file and answers with the name that it got."""
        async with _form(request) as form, _content(_upload(form)) as data:
            return await self._keep(form, data)

    async def upload_mask(self, request: Request) -> Response:
        """Keeps a picture of the caller's with the alpha of the upload, under the upload's name.

        Where there is no such picture the answer is still a name, and nothing is kept.
        """
        async with _form(request) as form:
            upload = _upload(form)
            reference = form.get("original_ref")
            if not isinstance(reference, str):
                raise Invalid('original_ref is missing: JSON text such as {"filename": "a.png", "type": "input"}')
            told = {name: str(value) for name, value in an_object(parse(reference.encode())).items()}
            try:
                stored = await self._find(FileName.read(told))
            except (NotFound, BadName, OutsideFolder):
                return json_answer(
                    {"name": upload.filename, "subfolder": _field(form, "subfolder"), "type": _folder(form)}
                )
            original = await self._picture_bytes(stored)
            mask = await upload.read()
            async with self._converting:
                data = await asyncio.to_thread(pictures.with_alpha_of, original, mask)
            return await self._keep(form, data)

    async def _find(self, name: FileName) -> StoredFile:
        stored = await self._dialect.files.find(
            self._dialect.tenant, type=name.type, subfolder=name.subfolder, filename=name.filename
        )
        if stored is None:
            raise NotFound(f"there is no file {name.filename}")
        return stored

    async def _keep(self, form: FormData, data: bytes | Path) -> Response:
        kept = await self._dialect.files.upload(
            self._dialect.tenant,
            folder=_folder(form),
            subfolder=_field(form, "subfolder"),
            filename=_upload(form).filename or "",
            data=data,
            overwrite=_field(form, "overwrite") in ("true", "1"),
        )
        return json_answer(kept)

    async def _converted(self, stored: StoredFile, query: Mapping[str, str]) -> pictures.Picture | None:
        preview, channel = query.get("preview"), query.get("channel")
        async with self._converting:
            data = await self._picture_bytes(stored)
            return await asyncio.to_thread(pictures.converted, data, preview=preview, channel=channel)

    async def _picture_bytes(self, stored: StoredFile) -> bytes:
        if stored.size_bytes > PICTURE_BYTES:
            raise BadImage(f"a file of {stored.size_bytes} bytes is too large to convert")
        return await self._dialect.blobs.get(stored.key)

    async def _file(self, request: Request, stored: StoredFile, headers: dict[str, str]) -> Response:
        """The file or a part of it."""
        size = stored.size_bytes
        try:
            part = wanted_part(request.headers.get("range"), size)
        except Unsatisfiable:
            return Response(None, 416, headers={"content-range": f"bytes */{size}"})
        headers = {**headers, "accept-ranges": "bytes"}
        status, (start, end) = (206, part) if part else (200, (0, size))
        if part:
            headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
        headers["content-length"] = str(end - start)
        if request.method == "HEAD":
            return Response(None, status, headers=headers)
        body = self._dialect.blobs.stream(stored.key, start, end)
        if end - start <= WHOLE_BYTES:
            return Response(b"".join([piece async for piece in body]), status, headers=headers)
        return StreamingResponse(body, status, headers=headers)


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    """The multipart form, large files spooled to disk."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Invalid("the body must be multipart/form-data with the file in the field `image`")
    try:
        form = await request.form(max_files=10, max_fields=100)
    except ValueError as error:  # the parser trusts the charset that the caller names
        raise Invalid(f"the form cannot be read: {error}") from error
    try:
        yield form
    finally:
        await form.close()


@asynccontextmanager
async def _content(upload: UploadFile) -> AsyncIterator[bytes | Path]:
    """The upload's bytes, or the path of a copy where they are many."""
    if (upload.size or 0) <= WHOLE_BYTES:
        yield await upload.read()
        return
    with tempfile.NamedTemporaryFile(prefix="limner-upload-") as copy:
        await asyncio.to_thread(_copy, upload, copy.name)
        yield Path(copy.name)


def _copy(upload: UploadFile, path: str) -> None:
    with Path(path).open("wb") as out:
        shutil.copyfileobj(upload.file, out, WHOLE_BYTES)


def _upload(form: FormData) -> UploadFile:
    image = form.get("image")
    if not isinstance(image, UploadFile):
        raise Invalid("the form has no file in the field `image`")
    if not image.filename:
        raise BadName("the uploaded file has no name")
    return image


def _folder(form: FormData) -> str:
    return _field(form, "type") or "input"


def _field(form: FormData, name: str) -> str:
    value = form.get(name, "")
    if not isinstance(value, str):
        raise Invalid(f"the field {name} must be a text, not a file")
    return value
