"""Nodes that load control networks."""

from __future__ import annotations

from typing import Annotated, Any

from limner.engine.context import RunContext
from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Choices, Files
from limner.models.controlnet.load import load_controlnet
from limner.models.controlnet.net import ControlNet as Network
from limner.models.library import ModelLibrary
from limner.nodes.sockets import ControlNet, Model

KINDS = {
    "openpose": 0,
    "depth": 1,
    "hed/pidi/scribble/ted": 2,
    "canny/lineart/anime_lineart/mlsd": 3,
    "normal": 4,
    "segment": 5,
    "tile": 6,
    "repaint": 7,
}
"""The kinds of picture that union networks were trained for, in their order."""


def _file(ctx: RunContext, control_net_name: str) -> Any:
    return ctx.service(ModelLibrary).fingerprint("controlnet", control_net_name)


@node("ControlNetLoader", display_name="Load ControlNet Model", category="loaders", fingerprint=_file)
def load_control(ctx: RunContext, *, control_net_name: Annotated[str, Files("controlnet")]) -> ControlNet:
    """Loads a ControlNet or a T2I-Adapter for Stable Diffusion 1.x, 2.x or XL."""
    library = ctx.service(ModelLibrary)
    return library.kept("controlnet", control_net_name, lambda path: load_controlnet(path, library.devices)).copy()


@node("DiffControlNetLoader", display_name="Load ControlNet Model (diff)", category="loaders", fingerprint=_file)
def load_control_difference(
    ctx: RunContext, *, model: Model, control_net_name: Annotated[str, Files("controlnet")]
) -> ControlNet:
    """Loads a ControlNet from a file that tells only how it differs from a model, and that model."""
    library = ctx.service(ModelLibrary)
    path = library.folders.find("controlnet", control_net_name)
    return load_controlnet(path, library.devices, model)


@node("SetUnionControlNetType", category="conditioning/controlnet", module="comfy_extras.nodes_controlnet")
def set_union_type(*, control_net: ControlNet, type: Annotated[str, Choices("auto", *KINDS)]) -> ControlNet:
    """Tells a union ControlNet, which knows several kinds of picture, which kind it will be given."""
    kind = KINDS.get(type)
    known = control_net.kinds if isinstance(control_net, Network) else 0
    if kind is not None and 0 < known <= kind:
        names = ", ".join(list(KINDS)[:known])
        raise UnfitInput(f"{control_net.name} was not made for pictures of the kind {type!r}; it knows {names}")
    chosen = control_net.copy()
    chosen.set_extra_arg("control_type", [] if kind is None else [kind])
    return chosen
