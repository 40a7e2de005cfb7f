"""What a run knows of its nodes: the workflow's own and those that expansion added, their classes, inputs and keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from limner.engine.accepted import Accepted
from limner.engine.cache import OutputCache
from limner.engine.context import RunContext
from limner.engine.events import NodeRef
from limner.engine.expansion import ref_of
from limner.engine.kept import KeptObjects
from limner.engine.mapping import Items
from limner.engine.values import Values
from limner.engine.wiring import Wiring, hidden_value
from limner.errors import RunError
from limner.graph.keys import FileMark, Fingerprint, content_keys
from limner.graph.kinds import NodeType
from limner.graph.spec import NodeSpec
from limner.graph.workflow import Link, Node, Workflow


@dataclass(frozen=True, slots=True)
class Tools:
    """What all runs of an executor share."""

    library: Mapping[str, NodeType]
    specs: Mapping[str, NodeSpec]
    cache: OutputCache
    objects: KeptObjects
    accepted: Accepted
    file_mark: FileMark | None


class Scene:
    """The nodes of one run by id."""

    def __init__(self, tools: Tools, workflow: Workflow, ctx: RunContext) -> None:
        self.tools = tools
        self.ctx = ctx
        self.workflow = workflow
        self.nodes: dict[str, Node] = dict(workflow.nodes)
        self.keys: dict[str, str] = {}
        self._refs: dict[str, NodeRef] = {}
        self._wirings: dict[str, Wiring] = {}

    def settle_keys(self, fingerprint: Fingerprint) -> None:
        """Finds the content key of each of the workflow's nodes."""
        tools = self.tools
        self.keys = content_keys(self.workflow, tools.specs, fingerprint, file_mark=tools.file_mark)

    def grow(self, children: Mapping[str, Node], parent: str, fingerprint: Fingerprint) -> None:
        """Adds the nodes that run in a node's place."""
        self.nodes.update(children)
        self.keys |= content_keys(
            Workflow(children),
            self.tools.specs,
            fingerprint,
            file_mark=self.tools.file_mark,
            known=self.keys,
            under=self.keys[parent],
        )

    def ref(self, node_id: str) -> NodeRef:
        """How events name the node."""
        found = self._refs.get(node_id)
        if found is None:
            dynprompt = self.ctx.dynprompt
            parent = dynprompt.get_parent_node_id(node_id)
            found = self._refs[node_id] = ref_of(node_id, dynprompt, None if parent is None else self.ref(parent))
        return found

    def real_class(self, node: Node) -> str:
        """The class of the workflow's own node in whose place this one runs: faults are told of that one."""
        return self.nodes[self.ref(node.id).real].class_type

    def wiring(self, node: Node) -> Wiring:
        found = self._wirings.get(node.id)
        if found is None:
            found = self._wirings[node.id] = Wiring.of(node, self.tools.library.get(node.class_type))
        return found

    def kind(self, node: Node) -> NodeType:
        """The node's class. Raises RunError where there is none."""
        if node.class_type not in self.tools.library:
            raise RunError(f"this worker has no node {node.class_type}")
        return self.tools.library[node.class_type]

    def instance(self, node: Node, kind: NodeType) -> Any:
        """The object that is kept for the node, where its class has such."""
        real = self.ref(node.id).real
        return self.tools.objects.get(self.ctx.tenant, node.id, node.class_type, real=real, make=kind.instance)

    def is_output(self, node_id: str) -> bool:
        spec = self.tools.specs.get(self.nodes[node_id].class_type)
        return spec is not None and spec.output_node

    def is_async(self, node_id: str) -> bool:
        kind = self.tools.library.get(self.nodes[node_id].class_type)
        return kind is not None and kind.is_async

    def gather(self, node: Node, kind: NodeType, values: Values, into: dict[str, Items]) -> None:
        """The arguments of a node: declared inputs in the workflow's order, then what the engine fills in.

        Raises RunError for a link to nothing; what was found until then is in `into`.
        """
        wiring = self.wiring(node)
        for name in wiring.order:
            link = wiring.links.get(name)
            if link is None:
                into[name] = [wiring.literals[name]]
            elif name in wiring.raw:
                into[name] = [[link.node_id, link.slot]]
            elif name in wiring.lazy and link.node_id in self.nodes and link.node_id not in values:
                into[name] = [None]
            else:
                into[name] = items_behind(link, values, f"input {name}")
        ctx = self.ctx
        for name, wanted in kind.spec.hidden.items():
            value = hidden_value(wanted, node_id=node.id, dynprompt=ctx.dynprompt, extra_pnginfo=ctx.extra_pnginfo)
            if value is not None or name not in into:  # a pack's own hidden input has what the workflow gives it
                into[name] = [value]


def items_behind(link: Link, values: Values, who: str) -> Items:
    """What comes by a link. Raises RunError where there is nothing of the kind."""
    slots = values.slots(link.node_id)
    if slots is None or not 0 <= link.slot < len(slots):
        raise RunError(f"{who} links to output {link.slot} of node {link.node_id}, which does not exist")
    return slots[link.slot]
