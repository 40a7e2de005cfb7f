"""FolderList: names of model files that remember which folder they are of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class FolderList(list[Any]):
    """The files of one model folder, with the words that a pack put before and after them.

    `folder_paths.get_filename_list("loras")` gives one, and `["None"] + that` is one still: so an input whose choices
    it becomes goes on offering what the folder holds.
    """

    def __init__(
        self, folder: str, names: Iterable[Any], *, first: tuple[Any, ...] = (), last: tuple[Any, ...] = ()
    ) -> None:
        self.folder = folder
        self.first = first
        self.last = last
        self._names = tuple(names)
        super().__init__((*first, *self._names, *last))

    @property
    def whole(self) -> bool:
        """Whether the list was left as it was made; a pack may have sorted or filtered it in place."""
        return tuple(self) == (*self.first, *self._names, *self.last)

    def __add__(self, other: Any) -> Any:
        if isinstance(other, FolderList) or not isinstance(other, list) or not self.whole:
            return list(self) + list(other)
        return FolderList(self.folder, self._names, first=self.first, last=(*self.last, *other))

    def __radd__(self, other: Any) -> Any:
        if not isinstance(other, list) or not self.whole:
            return list(other) + list(self)
        return FolderList(self.folder, self._names, first=(*other, *self.first), last=self.last)

    def __iadd__(self, other: Any) -> Any:
        return self + list(other)

    def copy(self) -> list[Any]:
        return FolderList(self.folder, self._names, first=self.first, last=self.last) if self.whole else list(self)

    def insert(self, index: Any, value: Any) -> None:
        """`names.insert(0, "None")` is how many packs put a word before them."""
        if index == 0 and self.whole:
            self.first = (value, *self.first)
        super().insert(index, value)

    def append(self, value: Any) -> None:
        if self.whole:
            self.last = (*self.last, value)
        super().append(value)
