"""The answer of /object_info, made class by class: a server with many packs and models has tens of megabytes of it."""

from __future__ import annotations

from collections.abc import Sequence

from limner.comfy.dialect.answers import encode
from limner.graph.catalogue import Catalogue


class NodeList:
    """One catalogue's classes as JSON. Only those that offer the caller's files are made anew for other files."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._fixed: dict[str, bytes] = {}
        self._last: tuple[tuple[str, ...], bytes] | None = None

    def ready(self, input_files: Sequence[str]) -> bytes | None:
        """The answer for a tenant with these files, if the last one was for the same."""
        return self._last[1] if self._last is not None and self._last[0] == tuple(input_files) else None

    def body(self, input_files: Sequence[str]) -> bytes:
        """The answer for a tenant with these input files. It may take a second: call it on a thread."""
        entries = b",".join(self._entry(name, input_files) for name in self.catalogue.nodes)
        body = b"{" + entries + b"}"
        self._last = tuple(input_files), body
        return body

    def _entry(self, name: str, input_files: Sequence[str]) -> bytes:
        """`"NAME":{...}`. One at a time, so that other threads get their turn in between."""
        entry = self._fixed.get(name)
        if entry is None:
            entry = encode(name) + b":" + encode(self.catalogue.node_info(name, input_files))
            if not self.catalogue.offers_input_files(name):
                self._fixed[name] = entry
        return entry
