"""What was found out about the nodes of a workflow, and which of them can run by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from limner.graph.faults import Fault
from limner.graph.spec import InputSpec, NodeSpec


@dataclass(frozen=True, slots=True)
class Feed:
    """A link that feeds an input. `loose`: of an input that a foreign node does not declare.

    What comes by a loose link may never be asked for, so its faults are not the node's. But its files must be found.
    """

    input: InputSpec
    link: list[Any]
    loose: bool = False

    @property
    def source(self) -> str:
        return str(self.link[0])


@dataclass(slots=True)
class Finding:
    """What was found out about one node: its own faults and its links; then whether it and all that feeds it are sound.

    `denied`: it, or something that feeds it, names a file that is not the tenant's. No link is too loose for that.
    """

    spec: NodeSpec
    faults: list[Fault] = field(default_factory=list)
    exceptions: list[tuple[str, str]] = field(default_factory=list)  # (type, text): ComfyUI stumbles over these
    feeds: list[Feed] = field(default_factory=list)
    changed: dict[str, Any] = field(default_factory=dict)  # converted literals
    files: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    sound: bool = False  # `settle` tells
    denied: bool = False  # of its own until `settle` told it the rest

    def spoilers(self, found: Mapping[str, Finding]) -> Iterator[str]:
        """The nodes that feed it whose faults are its own as well."""
        return (each.source for each in self.feeds if not each.loose or found[each.source].denied)


def settle(found: Mapping[str, Finding]) -> None:
    """Tells each node whether it is denied, and whether it is sound: nodes that spoil each other in a circle are not.

    A circle that a loose link closes spoils none, for the node may never ask for what comes by that link. So this
    waits until all links are known, in whatever order the nodes were found. Linear, without recursion.
    """
    users: dict[str, list[tuple[str, bool]]] = {node_id: [] for node_id in found}
    for node_id, finding in found.items():
        for feed in finding.feeds:
            users[feed.source].append((node_id, feed.loose))
    _deny(found, users)
    waits_for = {node_id: sum(not feed.loose for feed in each.feeds) for node_id, each in found.items()}
    ready = [node_id for node_id, count in waits_for.items() if not count]
    while ready:
        node_id = ready.pop()
        finding = found[node_id]
        finding.sound = not finding.faults and not finding.denied
        for user, loose in users[node_id]:
            if finding.sound and not loose:
                waits_for[user] -= 1
                if not waits_for[user]:
                    ready.append(user)


def _deny(found: Mapping[str, Finding], users: Mapping[str, list[tuple[str, bool]]]) -> None:
    denied = [node_id for node_id, finding in found.items() if finding.denied]
    while denied:
        for user, _ in users[denied.pop()]:
            if not found[user].denied:
                found[user].denied = True
                denied.append(user)
