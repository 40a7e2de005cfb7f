"""Names for types and shapes that packs annotate with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypedDict

from limner.compat.modules.comfy.comfy_types.node_typing import IO as IO
from limner.compat.modules.comfy.comfy_types.node_typing import CheckLazyMixin as CheckLazyMixin
from limner.compat.modules.comfy.comfy_types.node_typing import ComfyNodeABC as ComfyNodeABC
from limner.compat.modules.comfy.comfy_types.node_typing import FileLocator as FileLocator
from limner.compat.modules.comfy.comfy_types.node_typing import InputTypeDict as InputTypeDict


class UnetApplyFunction(Protocol):
    def __call__(self, x: Any, t: Any, **kwargs: Any) -> Any: ...


class UnetApplyConds(TypedDict, total=False):
    c_concat: Any
    c_crossattn: Any
    control: Any
    transformer_options: Any


class UnetParams(TypedDict):
    input: Any
    timestep: Any
    c: UnetApplyConds
    cond_or_uncond: Any


UnetWrapperFunction = Callable[[UnetApplyFunction, UnetParams], Any]
