"""EmptySD3LatentImage: the start of new pictures in latent spaces of 16 channels."""

from __future__ import annotations

from typing import Annotated

import torch

from limner.graph.node import node
from limner.graph.types import Int
from limner.nodes.memory import check_room
from limner.nodes.sockets import Latent

Edge = Annotated[int, Int(16, 16384, step=16)]


@node("EmptySD3LatentImage", category="latent/sd3", module="comfy_extras.nodes_sd3", schema_style=True)
def empty_sd3_latent(
    *, width: Edge = 1024, height: Edge = 1024, batch_size: Annotated[int, Int(1, 4096)] = 1
) -> Latent:
    """An empty latent of 16 channels, for SD3, Flux and others with such a space, in this size in pixels."""
    check_room(batch_size, 16, height // 8, width // 8)
    return {"samples": torch.zeros(batch_size, 16, height // 8, width // 8)}
