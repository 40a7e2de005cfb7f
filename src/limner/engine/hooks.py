"""What classes are asked beside being called: fingerprints, checks of inputs, and which lazy inputs they want."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from limner.engine.context import calling
from limner.engine.failure import by_hand
from limner.engine.lazy import missing_lazy
from limner.engine.mapping import Items
from limner.engine.scene import Scene
from limner.engine.side_by_side import SideBySide
from limner.engine.values import Values
from limner.engine.wiring import known_inputs
from limner.errors import Interrupted
from limner.graph.kinds import NodeType
from limner.graph.workflow import Node


class Hooks:
    """Asks for one run. An answer that is awaitable is waited for."""

    def __init__(self, scene: Scene, beside: SideBySide) -> None:
        self._scene = scene
        self._beside = beside

    def fingerprint(self, node: Node) -> Any:
        """What the node's result depends on beside its inputs; NaN, which equals nothing, where it cannot tell."""
        kind = self._scene.tools.library[node.class_type]
        if not kind.spec.fingerprinted:
            return None
        inputs = known_inputs(self._scene.wiring(node), whole=kind.spec.input_is_list)
        ctx = self._scene.ctx.at(self._scene.ref(node.id))
        try:
            with calling(ctx):
                return self._answer(kind.fingerprint(inputs, ctx))
        except Interrupted:
            raise
        except BaseException as raised:  # as in ComfyUI: a node that cannot tell is never answered from the cache
            if by_hand(raised):
                raise
            return math.nan

    def check(self, node: Node, kind: NodeType, inputs: dict[str, Any], types: dict[str, Any]) -> bool | str:
        """What the class's own code says of a node's inputs, or has said when the workflow was submitted."""
        if self._scene.tools.accepted.take(kind.spec.name, inputs, types):
            return True
        with calling(self._scene.ctx.at(self._scene.ref(node.id))):
            told: bool | str = self._answer(kind.check(inputs, types))
            return told

    def wanted(
        self, node: Node, kind: NodeType, instance: Any, inputs: Mapping[str, Items], values: Values
    ) -> list[str]:
        """The nodes behind lazy inputs that the node wants and that are not done."""
        wiring = self._scene.wiring(node)
        ctx = self._scene.ctx.at(self._scene.ref(node.id))
        unmade = {name for name in wiring.lazy if wiring.links[name].node_id not in values}
        with calling(ctx):
            names = missing_lazy(
                wiring,
                inputs,
                unmade,
                lambda arguments: self._answer(kind.wanted(arguments, ctx, instance)),
                whole=kind.spec.input_is_list,
            )
        return [wiring.links[name].node_id for name in names]

    def _answer(self, given: Any) -> Any:
        return self._beside.value(given) if inspect.isawaitable(given) else given
