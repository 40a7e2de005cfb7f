"""attention(): how every network of Limner looks from one row of tokens at another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SMALL = 256
"""How many queries a slice has where memory is short."""

_slice: ContextVar[int | None] = ContextVar("limner_attention_slice", default=None)


@contextmanager
def sliced(queries: int = SMALL) -> Iterator[None]:
    """While the block runs, no more than this many queries are answered at once: slower, in a fraction of the memory.

    Each query is answered for itself, so that what comes out is the same.
    """
    token = _slice.set(queries)
    try:
        yield
    finally:
        _slice.reset(token)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    mask: Tensor | None = None,
    *,
    transformer_options: Mapping[str, Any] | None = None,
) -> Tensor:
    """Scaled dot-product attention. q: (B, n, heads * d). k, v: (B, m, heads * d). Gives (B, n, heads * d).

    mask: (n, m), (B, n, m) or (B, heads, n, m); a boolean one is True where a query may look, another is added to the
    scores. transformer_options: an `optimized_attention_override` in it is asked instead, as (this function, q, k, v,
    heads, mask=mask).
    """
    override = (transformer_options or {}).get("optimized_attention_override")
    if override is not None:
        answer: Tensor = override(attention, q, k, v, heads, mask=mask)
        return answer
    batch, queries, _ = q.shape
    q, k, v = (each.view(batch, -1, heads, each.shape[-1] // heads).transpose(1, 2) for each in (q, k, v))
    if mask is not None:
        mask = _with_heads(mask)
    most = _slice.get()
    if most is None or most >= queries:
        answer = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    else:
        parts = []
        for start in range(0, queries, most):
            seen = mask if mask is None or mask.shape[-2] == 1 else mask[..., start : start + most, :]
            parts.append(F.scaled_dot_product_attention(q[..., start : start + most, :], k, v, attn_mask=seen))
        answer = torch.cat(parts, dim=2)
    return answer.transpose(1, 2).reshape(batch, queries, heads * v.shape[-1])


def _with_heads(mask: Tensor) -> Tensor:
    if mask.ndim == 2:
        return mask[None, None]
    return mask[:, None] if mask.ndim == 3 else mask
