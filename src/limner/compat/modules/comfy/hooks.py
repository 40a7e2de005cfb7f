"""Hooks on conditionings, which Limner has none of: groups can be put together, and hooks cannot be made."""

from __future__ import annotations

from typing import Any

from limner.compat.unoffered import no_class

WrapperHook = no_class("comfy.hooks", "WrapperHook")
WeightHook = no_class("comfy.hooks", "WeightHook")
TransformerOptionsHook = no_class("comfy.hooks", "TransformerOptionsHook")


class HookGroup:
    """Hooks in their order."""

    def __init__(self) -> None:
        self.hooks: list[Any] = []

    def __len__(self) -> int:
        return len(self.hooks)

    def add(self, hook: Any) -> None:
        if hook not in self.hooks:
            self.hooks.append(hook)

    def remove(self, hook: Any) -> None:
        if hook in self.hooks:
            self.hooks.remove(hook)

    def contains(self, hook: Any) -> bool:
        return hook in self.hooks

    def clone(self) -> HookGroup:
        other = HookGroup()
        other.hooks = list(self.hooks)
        return other

    def clone_and_combine(self, other: HookGroup | None) -> HookGroup:
        made = self.clone()
        for hook in other.hooks if other is not None else ():
            made.add(hook)
        return made
