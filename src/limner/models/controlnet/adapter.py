"""T2IAdapter: a small network that reads a picture once, for all levels. Mou et al. 2023, arXiv:2302.08453."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from limner.errors import UnfitInput
from limner.models.build import build
from limner.models.checkpoint import Header
from limner.models.controlnet.chain import Control, Residuals
from limner.models.device import Devices
from limner.models.keys import KeyMap
from limner.models.patcher import Patcher
from limner.models.weights import Weights

SHUFFLES = {64: (1, 8), 192: (3, 8), 256: (1, 16), 768: (3, 16)}
"""Channels after pixels are put on top of each other: of how many in the picture, and how many pixels wide."""

FLAT = re.compile(r"body\.(\d+)\.(in_conv|block1|block2)\.")
LIGHT = re.compile(r"body\.(\d+)\.body\.(\d+)\.")


class T2IAdapter(Control):
    """An adapter for UNets of the Stable Diffusion kind: a residual for each level of the way down."""

    def __init__(self, patcher: Patcher, name: str, *, hint_channels: int, unshuffle: int) -> None:
        super().__init__(patcher, name)
        self.hint_channels = hint_channels
        self.unshuffle = unshuffle
        self.features: list[Tensor] | None = None

    @property
    def t2i_model(self) -> nn.Module:
        """The network itself."""
        return self.patcher.module

    def cleanup(self) -> None:
        self.features = None
        super().cleanup()

    def residuals(
        self,
        x_noisy: Tensor,
        t: Tensor,  # noqa: ARG002 - it looks at the picture alone
        cond: Mapping[str, Any],  # noqa: ARG002
        batched_number: int,
        options: Mapping[str, Any],  # noqa: ARG002
    ) -> Residuals:
        assert self.base is not None
        seen = self.cond_hint
        hint = self.hint(x_noisy, batched_number, self.hint_channels, multiple_of=self.unshuffle)
        if self.features is None or seen is not self.cond_hint or len(self.features[0]) != len(hint):
            self.features = list(self.t2i_model(hint.to(self.patcher.dtype or hint.dtype)))
        blocks, places = input_places(self.base.diffusion_model)
        widths = [width for _, width in places]
        if widths != [feature.shape[1] for feature in self.features]:
            raise UnfitInput(
                f"{self.name} does not fit {self.base.name}: it adds to levels of the widths "
                f"{[feature.shape[1] for feature in self.features]}, the model has {widths}"
            )
        added: list[Tensor | None] = [None] * blocks
        for (block, _), feature in zip(places, self.features, strict=True):
            height, width = self._size(block, x_noisy)
            added[block] = feature[..., :height, :width]
        return {"input": added[::-1]}  # taken from the end, block by block

    def _size(self, block: int, x: Tensor) -> tuple[int, int]:
        """The size of x after this block: features of a picture that was rounded up may be larger."""
        assert self.base is not None
        halvings = sum(1 for each in _downs(self.base.diffusion_model) if each <= block)
        height, width = x.shape[-2:]
        for _ in range(halvings):
            height, width = -(-height // 2), -(-width // 2)
        return height, width


def input_places(unet: Any) -> tuple[int, list[tuple[int, int]]]:
    """How many blocks a UNet has on its way down, and to which of them an adapter adds, each with its width.

    Behind the last layer of a level, and where a level looks at no text behind its change of size, as in diffusers.
    """
    places, block = [], 0
    for stage in unet.down_blocks:
        layers = len(stage.resnets)
        width = stage.resnets[-1].conv2.out_channels
        block += layers
        last = block
        if stage.downsamplers:
            block += 1
        places.append((last if getattr(stage, "has_cross_attention", False) else block, width))
    return block + 1, places


def _downs(unet: Any) -> list[int]:
    """The blocks that halve the size."""
    found, block = [], 0
    for stage in unet.down_blocks:
        block += len(stage.resnets)
        if stage.downsamplers:
            block += 1
            found.append(block)
    return found


def is_adapter(header: Header) -> bool:
    """Whether a file holds a T2I-Adapter, in its own layout or that of diffusers."""
    names = [key.removeprefix("adapter.") for key in header.shapes]
    return all(name.startswith(("conv_in.", "body.")) for name in names) and any("block1." in name for name in names)


def load_adapter(weights: Weights, devices: Devices) -> T2IAdapter:
    """A T2I-Adapter: full, light, or for SDXL. Raises ModelFileError."""
    from diffusers.models.adapter import T2IAdapter as Network

    header = weights.header
    light = not any(key.removeprefix("adapter.") == "conv_in.weight" for key in header.shapes)
    names = {key: f"adapter.{_in_levels(key.removeprefix('adapter.'), light=light)}" for key in header.shapes}
    if any("resnets." in key for key in header.shapes):  # diffusers' own layout
        names = {key: key for key in header.shapes}
    named = weights.renamed(names)
    levels = named.header.count("adapter.body.{}.")
    entry = "adapter.body.0.in_conv.weight" if light else "adapter.conv_in.weight"
    channels = named.header.size(entry, 1)
    if channels not in SHUFFLES or not levels:
        raise header.fault(f"it is a T2I-Adapter with {channels} channels of input, none that is known here")
    read, unshuffle = SHUFFLES[channels]
    end = "out_conv" if light else "resnets.0.block1"
    widths = [named.header.size(f"adapter.body.{level}.{end}.weight") for level in range(levels)]
    kind = "light_adapter" if light else "full_adapter_xl" if unshuffle == 16 else "full_adapter"
    network = build(
        lambda: Network(
            in_channels=read,
            channels=widths[:-1] if light else widths,
            num_res_blocks=named.header.count("adapter.body.0.resnets.{}."),
            downscale_factor=unshuffle,
            adapter_type=kind,
        ),
        named.tensors(),
        header=header,
        part="T2I-Adapter",
    )
    patcher = Patcher(network, KeyMap.same(network, ""), devices.device, torch_dtype(devices, network))
    return T2IAdapter(patcher, header.path.name, hint_channels=read, unshuffle=unshuffle)


def torch_dtype(devices: Devices, network: nn.Module) -> Any:
    """The precision in which a network of this size runs."""
    return devices.network_dtype(sum(weight.numel() for weight in network.parameters()))


def _in_levels(key: str, *, light: bool) -> str:
    """A key with its residual networks numbered within their level: the original full adapter has two to each."""
    if light:
        return LIGHT.sub(lambda found: f"body.{found[1]}.resnets.{found[2]}.", key)
    found = FLAT.match(key)
    if found is None:
        return key
    number, part, rest = int(found[1]), found[2], key[found.end() :]
    place = "" if part == "in_conv" else f"resnets.{number % 2}."
    return f"body.{number // 2}.{place}{part}.{rest}"
