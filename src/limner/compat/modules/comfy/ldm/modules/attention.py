"""Attention as packs ask for it: Limner's own. The blocks around it are not there: those of its networks are others."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from limner.compat.unoffered import unoffered
from limner.models.attention import attention

MODULE = "comfy.ldm.modules.attention"

globals().update(
    unoffered(
        MODULE,
        (
            "BasicTransformerBlock", "SpatialTransformer", "SpatialVideoTransformer", "attention_flash",
            "attention_sage", "attention_xformers",
        ),
    )
)  # fmt: skip


def wrap_attn(func: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An attention that asks `optimized_attention_override` of `transformer_options` instead, where there is one."""

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Tensor:
        inside = kwargs.pop("_inside_attn_wrapper", False)
        override = (kwargs.get("transformer_options") or {}).get("optimized_attention_override")
        if override is None or inside:
            return func(*args, **kwargs)
        answer: Tensor = override(func, *args, **{**kwargs, "_inside_attn_wrapper": True})
        return answer

    return wrapped


@wrap_attn
def attention_pytorch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    mask: Tensor | None = None,
    attn_precision: torch.dtype | None = None,
    skip_reshape: bool = False,
    skip_output_reshape: bool = False,
    **_: Any,
) -> Tensor:
    """q, k, v: (B, n, heads * d), with skip_reshape (B, heads, n, d). Gives (B, n, heads * d), or (B, heads, n, d)."""
    if skip_reshape:
        q, k, v = (each.transpose(1, 2).flatten(2) for each in (q, k, v))
    answer = attention(q, k, v, heads, mask)
    if skip_output_reshape:
        return answer.reshape(*answer.shape[:2], heads, -1).transpose(1, 2)
    return answer


optimized_attention = attention_pytorch
optimized_attention_masked = attention_pytorch
attention_basic = attention_pytorch
attention_sub_quad = attention_pytorch
attention_split = attention_pytorch


def optimized_attention_for_device(device: Any, mask: bool = False, small_input: bool = False) -> Callable[..., Tensor]:
    return optimized_attention


class CrossAttention(nn.Module):
    """Attention with its own projections: x (B, n, query_dim) looks at context (B, m, context_dim)."""

    def __init__(
        self,
        query_dim: int,
        context_dim: int | None = None,
        heads: int = 8,
        dim_head: int = 64,
        dropout: float = 0.0,
        attn_precision: torch.dtype | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
        operations: Any = nn,
    ) -> None:
        super().__init__()
        self.heads = heads
        inner, width = heads * dim_head, context_dim or query_dim
        told = {"dtype": dtype, "device": device}
        self.to_q = operations.Linear(query_dim, inner, bias=False, **told)
        self.to_k = operations.Linear(width, inner, bias=False, **told)
        self.to_v = operations.Linear(width, inner, bias=False, **told)
        self.to_out = nn.Sequential(operations.Linear(inner, query_dim, **told), nn.Dropout(dropout))

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
    ) -> Tensor:
        seen = x if context is None else context
        q, k, v = self.to_q(x), self.to_k(seen), self.to_v(seen if value is None else value)
        answer: Tensor = self.to_out(
            optimized_attention(q, k, v, self.heads, mask, transformer_options=transformer_options or {})
        )
        return answer
