"""Studio: workflows of Limner's real nodes, through the real executor, on a folder of small models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from limner.diffusion import noise
from limner.engine.cache import OutputCache
from limner.engine.context import RunContext
from limner.engine.events import NodeRef, RunFailed
from limner.engine.executor import Executor
from limner.engine.library import NodeLibrary
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.types import Hidden, Socket, Text
from limner.graph.validate import validate
from limner.models.device import Devices
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.nodes import library
from tests.unit.nodes.contexts import LocalFiles

CPU = Devices(device=torch.device("cpu"), half=None)

Nodes = dict[str, tuple[str, dict[str, Any]]]
"""A workflow: class and inputs of each node, by its id. A link is [id, slot]."""

SAMPLING: dict[str, Any] = {
    "seed": 7, "steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0
}  # fmt: skip


class Kept(dict[str, Any]):
    """What `Keep` nodes got, by their ids."""


class Given(dict[str, Any]):
    """What `Given` nodes hand out, by name."""


@node("Keep", category="tests", outputs=(), output_node=True)
def keep(
    ctx: RunContext, *, value: Annotated[Any, Socket("*")], unique_id: Annotated[str, Hidden("UNIQUE_ID")]
) -> Result:
    """Keeps what comes in for the test to look at."""
    ctx.service(Kept)[unique_id] = value
    return Result()


def _given(kind: str) -> Any:
    @node(f"Given{kind}", category="tests", outputs=(kind,))
    def given(ctx: RunContext, *, name: Annotated[str, Text()]) -> Any:
        """Hands out what the test gave."""
        return Result(values=(ctx.service(Given)[name],))

    return given.node  # type: ignore[attr-defined]


class Studio:
    """A model folder with an engine over it. Models stay loaded from run to run, results do not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folders = ModelFolders([folder])
        self.models = ModelLibrary(folders, CPU)
        own = [keep.node, *map(_given, ("IMAGE", "MASK", "LATENT"))]  # type: ignore[attr-defined]
        self.nodes = NodeLibrary([*library.load().values(), *own])

    def run(self, nodes: Nodes, /, *, previews: bool = False, **given: Any) -> Any:
        """What the node `keep` got. given: pictures, masks and latents for nodes of the class GivenIMAGE, ..."""
        prompt = {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}
        catalogue = library.catalogue(self.nodes, ModelFolders([self.folder]))
        checked = validate(prompt, catalogue)
        assert not checked.node_errors, checked.node_errors
        kept = Kept()
        ctx = RunContext(
            prompt_id="p",
            tenant="default",
            node=NodeRef.plain(""),
            prompt=prompt,
            extra_pnginfo=None,
            files=LocalFiles(self.folder),
            services={ModelLibrary: self.models, Kept: kept, Given: Given(given)},
            previews=previews,
        )
        executor = Executor(self.nodes, OutputCache())
        ran = executor.run(
            workflow=checked.workflow, outputs=checked.outputs, ctx=ctx, emit=_ignore, interrupted=lambda: False
        )
        assert not isinstance(ran.end, RunFailed), ran.end
        return kept["keep"]


def _ignore(_event: object) -> None:
    """Nobody listens."""


def texts(clip: list[Any], positive: str = "a photo of a cat", negative: str = "blurry, dark") -> Nodes:
    """The two prompts."""
    return {
        "positive": ("CLIPTextEncode", {"clip": clip, "text": positive}),
        "negative": ("CLIPTextEncode", {"clip": clip, "text": negative}),
    }


def classic(checkpoint: str, *, width: int = 72, height: int = 56, batch: int = 1, **sampling: Any) -> Nodes:
    """A picture from a text. 72x56 pixels are 9x7 places, which no UNet can halve twice evenly."""
    return {
        "model": ("CheckpointLoaderSimple", {"ckpt_name": checkpoint}),
        **texts(["model", 1]),
        "latent": ("EmptyLatentImage", {"width": width, "height": height, "batch_size": batch}),
        "sampled": ("KSampler", {
            "model": ["model", 0], "positive": ["positive", 0], "negative": ["negative", 0],
            "latent_image": ["latent", 0], **SAMPLING, **sampling,
        }),
        "picture": ("VAEDecode", {"samples": ["sampled", 0], "vae": ["model", 2]}),
        "keep": ("Keep", {"value": ["picture", 0]}),
    }  # fmt: skip


def latents(nodes: Nodes, source: str = "sampled") -> Nodes:
    """The same workflow, but a latent is kept instead of the picture."""
    return {
        **{name: each for name, each in nodes.items() if name != "picture"},
        "keep": ("Keep", {"value": [source, 0]}),
    }


def start(width: int = 72, height: int = 56, *, seed: int = 7, channels: int = 4, batch: int = 1) -> Tensor:
    """The noise that a seed gives."""
    return noise.initial(seed, torch.zeros(batch, channels, height // 8, width // 8))


def picture(width: int = 72, height: int = 56) -> Tensor:
    """A picture (1, H, W, 3) with slopes and edges, in 8-bit steps."""
    draw = torch.Generator().manual_seed(3)
    rough = torch.rand(1, 3, height // 8, width // 8, generator=draw)
    smooth = torch.nn.functional.interpolate(rough, size=(height, width), mode="bilinear")
    return (smooth.movedim(1, -1) * 255).round() / 255


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, in parts of the largest value."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float((ours - theirs).abs().max() / theirs.abs().max())


TOLERANCE = 1e-5
"""Ten times stricter than what is promised: in float32 both should do the same sums."""


def agree(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
    """Latents and pictures (or whatever stands in both) are the same. MEASURED keeps by how much they are not."""
    for one, other in zip(ours, theirs, strict=True):
        error = difference(one, other)
        print(f"difference {error:.1e}")
        assert error < TOLERANCE
