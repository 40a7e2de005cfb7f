"""Textual inversion: learned rows that stand in a prompt as `embedding:NAME`. Gal et al. 2022, arXiv:2208.01618."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torch import Tensor

from limner.engine.context import NoRun, current
from limner.models.checkpoint import Header
from limner.models.files import ModelFolders
from limner.models.weights import open_weights

log = logging.getLogger(__name__)

MARK = re.compile(r"(?:^|(?<=[ \n]))embedding:(\S*)")

INSIDE = ("string_to_param.*", "string_to_param", "emb_params", "*")
"""Keys under which files for one encoder keep their rows."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedding:
    """The tables of rows in one file: by encoder (`clip_l`, `clip_g`, ...), or one table under any other key.

    Each table: (places, width).
    """

    name: str
    tables: Mapping[str, Tensor]

    def rows(self, encoder: str, width: int) -> Tensor | None:
        """The rows for an encoder of this width; None, with a warning, where the file has none that fit it."""
        table = self.tables.get(encoder, next(iter(self.tables.values())))
        if table.shape[-1] == width:
            return table
        tell(
            f"embedding:{self.name} has rows of width {table.shape[-1]}, the text encoder {encoder} takes {width}; "
            "it is left out there"
        )
        return None


FindEmbedding = Callable[[str], Embedding | None]
"""A name to what its file holds; None where there is no such file."""


def split_embeddings(text: str) -> Iterator[tuple[str, str]]:
    """The text in parts: ("text", some words) and ("embedding", a name). A comma behind a name is text."""
    end = 0
    for found in MARK.finditer(text):
        yield "text", text[end : found.start()]
        name = found[1].rstrip(",")
        yield "embedding", name
        end = found.start(1) + len(name)
    yield "text", text[end:]


def read_embedding(folders: ModelFolders, name: str) -> Embedding | None:
    """The rows in `embeddings/NAME.safetensors` (or .pt, .bin); None, with a warning, where there is none.

    Raises ModelFileError for a file that is damaged, no embedding, or pickled where that is not allowed.
    """
    files = folders.files("embeddings")
    path = next((files[each] for each in files if name in (each, str(PurePosixPath(each).with_suffix("")))), None)
    if path is None:
        tell(f"the prompt names embedding:{name}, and there is no such file; it is left out")
        return None
    return Embedding(name=name, tables=_tables(path))


def tell(text: str) -> None:
    """Warns in the log, and at the node that is running, if any."""
    log.warning("%s", text)
    try:
        current().warn(text)
    except NoRun:
        return


def _tables(path: Path) -> dict[str, Tensor]:
    file = open_weights(path)
    header, weights = file.header, file.tensors()
    known = next((key for key in INSIDE if key in weights), None)
    if known is not None:
        weights = {known: weights[known]}
    tables = {key: _table(header, weight) for key, weight in weights.items() if weight.ndim in (1, 2)}
    if not tables:
        raise header.fault("an embedding holds a table of rows (places, width), and this file has none")
    return tables


def _table(header: Header, rows: Tensor) -> Tensor:
    if not rows.is_floating_point() or not rows.shape[-1]:
        raise header.fault(f"an embedding holds rows of decimal numbers, and this file has {rows.dtype}")
    return rows.reshape(-1, rows.shape[-1]).float()
