"""Textual inversion: learned rows that stand in a prompt as `embedding:NAME`."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from torch import Tensor

from limner.models.checkpoint import read_header
from limner.models.files import ModelFolders

log = logging.getLogger(__name__)

FindEmbedding = Callable[[str], Tensor | None]
"""A name to its rows, (places, width); None where there is no such file."""

MARK = re.compile(r"(?:^|(?<=[ \n]))embedding:(\S*)")


def split_embeddings(text: str) -> Iterator[tuple[str, str]]:
    """The text in parts: ("text", some words) and ("embedding", a name). A comma behind a name is text."""
    end = 0
    for found in MARK.finditer(text):
        yield "text", text[end : found.start()]
        name = found[1].rstrip(",")
        yield "embedding", name
        end = found.start(1) + len(name)
    yield "text", text[end:]


def read_embedding(folders: ModelFolders, name: str) -> Tensor | None:
    """The rows in `embeddings/NAME.safetensors`; None where there is none. Raises ModelFileError for a bad file."""
    from safetensors.torch import load_file

    files = folders.files("embeddings")
    path = next((files[each] for each in files if name in (each, str(PurePosixPath(each).with_suffix("")))), None)
    if path is None:
        log.warning("the prompt names embedding:%s, and there is no such file; it is left out", name)
        return None
    header = read_header(path)
    tables: list[Tensor] = [tensor for tensor in load_file(path).values() if tensor.ndim in (1, 2)]
    if len(tables) != 1:
        raise header.fault("an embedding holds one table of rows")
    return tables[0].reshape(-1, tables[0].shape[-1])
