"""UpscaleModel: pictures into larger or cleaner ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from limner.errors import OutOfMemory, UnfitInput
from limner.models.keys import KeyMap
from limner.models.patcher import Patcher
from limner.models.residency import free, is_exhausted, use
from limner.models.tiles import OnTile, nothing, tiled
from limner.models.upscale.architectures import spandrel
from limner.models.weights import open_weights

TILES_PX = (512, 256, 128)
"""Edges of tiles, each tried where memory did not suffice for the one before."""

OVERLAP_PX = 32


class UpscaleModel:
    """What an UPSCALE_MODEL socket carries. `scale`, `to` and calling it are what node packs use."""

    def __init__(self, descriptor: Any, name: str, device: torch.device) -> None:
        module: nn.Module = descriptor.model
        self.name = name
        self.descriptor = descriptor
        self.scale: int = descriptor.scale
        self.patcher = Patcher(module, KeyMap.same(module, ""), device)

    @property
    def model(self) -> nn.Module:
        """The network itself."""
        return self.patcher.module

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in 0..1 into (B, 3, H * scale, W * scale), where the network lies now."""
        answer: Tensor = self.descriptor(pixels)
        return answer

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Moves the network, for packs that place models themselves."""
        self.descriptor.to(*args, **kwargs)
        return self

    def upscale(self, pictures: Tensor, on_tile: OnTile = nothing) -> Tensor:
        """Pictures (B, H, W, 3 or more) in 0..1 into (B, H * scale, W * scale, 3), float32 on the CPU.

        Tile by tile; where memory does not suffice, in tiles of half the edge. Raises UnfitInput, OutOfMemory.
        """
        if pictures.ndim != 4 or 0 in pictures.shape or pictures.shape[-1] < 3:
            raise UnfitInput(
                f"the pictures have the shape {tuple(pictures.shape)}; an upscale model takes (batch, height, width, 3)"
            )
        pixels = pictures[..., :3].movedim(-1, 1).float()
        with torch.inference_mode(), use(self.patcher):
            for edge in TILES_PX:
                try:
                    return self._in_tiles(pixels, edge, on_tile).clamp(0, 1).movedim(1, -1)
                except Exception as error:
                    if not is_exhausted(error):
                        raise
                free()  # outside of the handler, whose traceback holds what the attempt had allocated
        raise OutOfMemory(f"{self.name} has no room even for tiles of {TILES_PX[-1]} pixels")

    def _in_tiles(self, pixels: Tensor, edge: int, on_tile: OnTile) -> Tensor:
        device = self.patcher.load_device
        return tiled(
            lambda piece: self(piece.to(device)),
            pixels,
            tile=(edge, edge),
            overlap=OVERLAP_PX,
            scale=self.scale,
            on_tile=on_tile,
        )


def load_upscale_model(path: Path, device: torch.device) -> UpscaleModel:
    """An upscale model in any architecture that spandrel knows. Raises ModelFileError."""
    weights = open_weights(path)
    library = spandrel()
    try:
        descriptor = library.MAIN_REGISTRY.load(library.canonicalize_state_dict(weights.tensors()))
    except library.UnsupportedModelError as error:
        raise weights.header.fault(
            "it is no upscale model of a known architecture (ESRGAN, SwinIR, HAT ...)"
        ) from error
    except (RuntimeError, KeyError, ValueError, AssertionError, IndexError) as error:
        raise weights.header.fault(f"its weights are not whole ({error!s:.300})") from error
    channels = descriptor.input_channels, descriptor.output_channels
    if not isinstance(descriptor, library.ImageModelDescriptor) or channels != (3, 3):
        raise weights.header.fault(
            f"it is a model of the kind {descriptor.architecture.name} from {channels[0]} to {channels[1]} channels; "
            "an upscale model takes and gives colours"
        )
    descriptor.model.requires_grad_(False)
    return UpscaleModel(descriptor.float().eval(), path.name, device)
