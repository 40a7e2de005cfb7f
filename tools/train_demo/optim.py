"""Muon for the weight matrices, AdamW for the rest: for few steps at a high rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def orthogonal(g: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix to each of a stack of matrices, roughly (quintic Newton-Schulz)."""
    x = g.bfloat16()
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.mT if tall else x).to(g.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix updates are made orthogonal (K. Jordan 2024), scaled to the size of AdamW's."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # noqa: ARG002
        """One step; matrices of one shape go through Newton-Schulz together."""
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault((p.shape[0], p[0].numel()), []).append(p)
            for (rows, columns), params in shapes.items():
                directions = []
                for p in params:
                    state = self.state[p]
                    if "buffer" not in state:
                        state["buffer"] = torch.zeros_like(p)
                    state["buffer"].lerp_(p.grad, 1 - group["momentum"])
                    directions.append(p.grad.lerp(state["buffer"], group["momentum"]).reshape(rows, columns))
                updates = orthogonal(torch.stack(directions))
                size = 0.2 * math.sqrt(max(rows, columns))
                for p, update in zip(params, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["decay"])
                    p.add_(update.reshape(p.shape), alpha=-group["lr"] * size)


class Both:
    """Muon for `matrices` and AdamW for `others` behind one face; the learning rate is set at each step."""

    def __init__(self, modules: Iterable[nn.Module], lr: float, matrices: bool = True) -> None:
        self.lr = lr
        self.params = [p for module in modules for p in module.parameters() if p.requires_grad]
        chosen = {p for module in modules for p in _matrices(module) if p.requires_grad} if matrices else set()
        others = [p for p in self.params if p not in chosen]
        self.parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, lr, betas=(0.9, 0.99), weight_decay=1e-3)]
        if chosen:
            self.parts.append(Muon([p for p in self.params if p in chosen], lr))

    def step(self, loss: Tensor, share: float) -> None:
        """Follows the gradient of `loss` at `share` of the full learning rate."""
        for part in self.parts:
            part.zero_grad()
            for group in part.param_groups:
                group["lr"] = self.lr * share
        loss.backward()
        nn.utils.clip_grad_norm_(self.params, 1.0)
        for part in self.parts:
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """The state of both."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Takes up what `state_dict` gave."""
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def _matrices(module: nn.Module) -> list[nn.Parameter]:
    """Weights of linear and convolution layers inside; the first and last layers are left to AdamW."""
    outer = {"conv_in", "conv_out", "quant_conv", "post_quant_conv"}
    return [
        m.weight
        for name, m in module.named_modules()
        if isinstance(m, nn.Linear | nn.Conv2d) and name.split(".")[-1] not in outer
    ]


def share(step: int, done: float, warm: int = 100) -> float:
    """Warm-up, then a cosine from 1 to 1%; `done` is the share of the time or of the steps that is over."""
    return min(1.0, (step + 1) / warm) * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, done))))
