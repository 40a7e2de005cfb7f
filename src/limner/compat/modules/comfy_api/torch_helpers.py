"""Models compiled by torch."""

from __future__ import annotations

from typing import Any

import torch


def set_torch_compile_wrapper(
    model: Any,
    backend: str = "inductor",
    options: dict[str, Any] | None = None,
    mode: str | None = None,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    keys: list[str] | None = None,
    *args: Any,
    **kwargs: Any,
) -> None:
    """Puts compiled parts in the place of a model's own; `keys`: which, the whole network where none is told."""
    for key in keys or ["diffusion_model"]:
        part = model.get_model_object(key)
        compiled = torch.compile(
            part, backend=backend, options=options, mode=mode, fullgraph=fullgraph, dynamic=dynamic
        )
        model.add_object_patch(key, compiled)
