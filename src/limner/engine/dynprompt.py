"""DynamicPrompt: a run's workflow with the nodes that others have put in their place. Nodes and packs may read it."""

from __future__ import annotations

from typing import Any

from limner.errors import LimnerError


class NodeNotFound(LimnerError):
    """The running workflow has no node of this id."""

    code = "node_error"


class DynamicPrompt:
    """Nodes by id in the API format. Those made by expansion are called ephemeral: they have a parent.

    The members are those that node packs know it by.
    """

    __slots__ = ("ephemeral_display", "ephemeral_parents", "ephemeral_prompt", "original_prompt")

    def __init__(self, original_prompt: dict[str, Any]) -> None:
        self.original_prompt = original_prompt
        self.ephemeral_prompt: dict[str, Any] = {}
        self.ephemeral_parents: dict[str, str] = {}
        self.ephemeral_display: dict[str, str] = {}

    def get_node(self, node_id: str) -> dict[str, Any]:
        """The node as its graph has it. Raises NodeNotFound."""
        for nodes in (self.ephemeral_prompt, self.original_prompt):
            if node_id in nodes:
                found: dict[str, Any] = nodes[node_id]
                return found
        raise NodeNotFound(f"Node {node_id} not found")

    def has_node(self, node_id: str) -> bool:
        return node_id in self.original_prompt or node_id in self.ephemeral_prompt

    def add_ephemeral_node(self, node_id: str, node_info: dict[str, Any], parent_id: str, display_id: str) -> None:
        self.ephemeral_prompt[node_id] = node_info
        self.ephemeral_parents[node_id] = parent_id
        self.ephemeral_display[node_id] = display_id

    def get_real_node_id(self, node_id: str) -> str:
        """The node of the submitted workflow in whose place this one runs."""
        while node_id in self.ephemeral_parents:
            node_id = self.ephemeral_parents[node_id]
        return node_id

    def get_parent_node_id(self, node_id: str) -> str | None:
        return self.ephemeral_parents.get(node_id)

    def get_display_node_id(self, node_id: str) -> str:
        """The node at which the editor shows this one's state."""
        while node_id in self.ephemeral_display:
            node_id = self.ephemeral_display[node_id]
        return node_id

    def all_node_ids(self) -> set[str]:
        return {*self.original_prompt, *self.ephemeral_prompt}

    def get_original_prompt(self) -> dict[str, Any]:
        return self.original_prompt
