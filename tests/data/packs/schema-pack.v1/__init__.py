"""A pack in the schema style, in a folder whose name is no Python name."""

from typing_extensions import override

from comfy_api.latest import ComfyExtension, io

from .nodes import SchemaNodes


class Extension(ComfyExtension):
    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return SchemaNodes


async def comfy_entrypoint() -> ComfyExtension:
    return Extension()
