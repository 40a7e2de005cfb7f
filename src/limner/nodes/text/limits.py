"""How long a text may become: a replacement can multiply it, and a text of gigabytes would end the engine."""

from __future__ import annotations

from limner.errors import UnfitInput

LONGEST_TEXT = 16 * 2**20
"""Characters that a text made by a node may have."""


def check_length(characters: int) -> None:
    """Raises UnfitInput where a text would have more than LONGEST_TEXT characters."""
    if characters > LONGEST_TEXT:
        raise UnfitInput(f"the text would have {characters} characters; at most {LONGEST_TEXT} are made")
