"""A node's inputs as its class declares them: which are links, and which of these wait until the node asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from limner.engine.dynprompt import DynamicPrompt
from limner.graph.kinds import NodeType
from limner.graph.workflow import Link, Node, as_link, unwrapped


@dataclass(slots=True)
class Wiring:
    """One node's inputs by name. Raw ones are links too, whose node gets the link and not the value."""

    literals: dict[str, Any] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)  # in the node's own order, as the literals
    order: list[str] = field(default_factory=list)
    lazy: frozenset[str] = frozenset()
    raw: frozenset[str] = frozenset()

    @classmethod
    def of(cls, node: Node, kind: NodeType | None) -> Wiring:
        """Of an unknown class every input counts: it fails only when its turn comes, after what feeds it."""
        found = cls()
        lazy, raw = [], []
        for name, value in node.inputs.items():
            declared = kind.input(name) if kind is not None else None
            if kind is not None and declared is None:
                continue
            link = as_link(value)
            found.order.append(name)
            if link is None:
                found.literals[name] = unwrapped(value)
                continue
            found.links[name] = link
            if declared is not None and declared.options:
                if declared.lazy:
                    lazy.append(name)
                if declared.raw_link:
                    raw.append(name)
        found.lazy, found.raw = frozenset(lazy), frozenset(raw)
        return found

    def sources(self) -> Iterator[str]:
        """The nodes that it links to, one for each link."""
        return (link.node_id for link in self.links.values())

    def eager(self) -> Iterator[str]:
        """The nodes that must be done before it begins."""
        return (link.node_id for name, link in self.links.items() if name not in self.lazy)


def known_inputs(wiring: Wiring, *, whole: bool) -> dict[str, Any]:
    """The arguments as a fingerprint gets them, before anything ran: linked ones are None."""
    values = {name: wiring.literals.get(name) for name in wiring.order}
    if not whole:
        return values
    return {name: [value] if name in wiring.literals else (None,) for name, value in values.items()}


def hidden_value(wanted: str, *, node_id: str, dynprompt: DynamicPrompt, extra_pnginfo: Any) -> Any:
    """What the engine fills in for a hidden input of this type; None for one that it does not know.

    Among these are the account tokens of comfy.org's paid nodes: callers' secrets are never kept, so none come here.
    """
    match wanted:
        case "UNIQUE_ID":
            return node_id
        case "PROMPT":
            return dynprompt.get_original_prompt()
        case "DYNPROMPT":
            return dynprompt
        case "EXTRA_PNGINFO":
            return extra_pnginfo
    return None
