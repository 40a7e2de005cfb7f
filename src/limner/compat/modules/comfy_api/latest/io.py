"""Types, schemas and node classes: `io.Schema`, `io.Int.Input` ..."""

from __future__ import annotations

from typing import Any

from limner.compat.api.inputs import ComfyTypeI as ComfyTypeI
from limner.compat.api.inputs import ComfyTypeIO as ComfyTypeIO
from limner.compat.api.inputs import ControlAfterGenerate as ControlAfterGenerate
from limner.compat.api.inputs import FolderType as FolderType
from limner.compat.api.inputs import Input as Input
from limner.compat.api.inputs import NumberDisplay as NumberDisplay
from limner.compat.api.inputs import Output as Output
from limner.compat.api.inputs import RemoteOptions as RemoteOptions
from limner.compat.api.inputs import UploadType as UploadType
from limner.compat.api.inputs import WidgetInput as WidgetInput
from limner.compat.api.inputs import comfytype as comfytype
from limner.compat.api.inputs import custom
from limner.compat.api.nodes import ComfyNode as ComfyNode
from limner.compat.api.nodes import Hidden as Hidden
from limner.compat.api.nodes import HiddenHolder as HiddenHolder
from limner.compat.api.nodes import NodeOutput as NodeOutput
from limner.compat.api.nodes import Schema as Schema
from limner.compat.api.types import TYPES
from limner.compat.install import lacking
from limner.graph.blocker import ExecutionBlocker as ExecutionBlocker

Custom = custom


def __getattr__(name: str) -> Any:
    found = TYPES.get(name)
    return lacking("comfy_api.latest.io")(name) if found is None else found
