"""The objects of class-based nodes, which live from run to run: packs keep things in their attributes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

MOST_TENANTS = 64
"""Of so many tenants objects are kept; beyond, those who ran longest ago lose theirs."""


class KeptObjects:
    """One object for each (tenant, node id, class), as long as the tenant's workflows have that node."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, dict[tuple[str, str], tuple[str, Any]]] = OrderedDict()

    def keep_only(self, tenant: str, classes: Mapping[str, str]) -> None:
        """Drops the objects of nodes that the next run's workflow (node id to class) does not have."""
        kept = self._tenants.pop(tenant, {})
        self._tenants[tenant] = {
            (node_id, class_type): (real, kept_object)
            for (node_id, class_type), (real, kept_object) in kept.items()
            if (real in classes if real != node_id else classes.get(node_id) == class_type)
        }
        while len(self._tenants) > MOST_TENANTS:
            self._tenants.popitem(last=False)

    def get(self, tenant: str, node_id: str, class_type: str, *, real: str, make: Callable[[], Any]) -> Any:
        """The node's object; made, if there is none. `real`: the workflow's own node, where expansion made this one."""
        objects = self._tenants.setdefault(tenant, {})
        if (node_id, class_type) not in objects:
            made = make()
            if made is None:
                return None
            objects[node_id, class_type] = (real, made)
        return objects[node_id, class_type][1]

    def clear(self) -> None:
        self._tenants.clear()
