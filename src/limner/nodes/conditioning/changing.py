"""with_extras(): conditionings with something added, each a new one."""

from __future__ import annotations

from typing import Any

from limner.diffusion.conditioning import Conditioning


def with_extras(conditioning: Conditioning, extras: dict[str, Any], *, append: bool = False) -> Conditioning:
    """The conditionings with these extras. append: the values are lists that go behind what is there already."""
    return [
        (
            text,
            {
                **own,
                **{key: [*own.get(key, ()), *value] if append else value for key, value in extras.items()},
            },
        )
        for text, own in conditioning
    ]
