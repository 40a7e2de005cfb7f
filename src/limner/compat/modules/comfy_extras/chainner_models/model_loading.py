"""Upscale models out of state dicts."""

from __future__ import annotations

from typing import Any


def load_state_dict(state_dict: dict[str, Any]) -> Any:
    """The network that these weights belong to, as spandrel tells; in evaluation mode."""
    from spandrel import ModelLoader

    return ModelLoader().load_from_state_dict(state_dict).eval()
