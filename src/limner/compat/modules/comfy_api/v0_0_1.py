"""Version 0.0.1 of the interface, which the newest one still has."""

from __future__ import annotations

from limner.compat.modules.comfy_api.latest import ComfyAPI as ComfyAPI
from limner.compat.modules.comfy_api.latest import ComfyAPISync as ComfyAPISync
from limner.compat.modules.comfy_api.latest import ComfyExtension as ComfyExtension
from limner.compat.modules.comfy_api.latest import Input as Input
from limner.compat.modules.comfy_api.latest import InputImpl as InputImpl
from limner.compat.modules.comfy_api.latest import Types as Types
from limner.compat.modules.comfy_api.latest import io as io
from limner.compat.modules.comfy_api.latest import ui as ui
