"""A spatial transformer of a UNet: attention to itself, then to the text, with the hooks that packs put in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from limner.models.attention import attention

Options = dict[str, Any]


def run(transformer: Any, x: Tensor, context: Tensor, options: Options) -> Tensor:
    """diffusers' Transformer2DModel over x (B, C, h, w), looking at context (B, tokens, width).

    options: `transformer_options`; `block` says where in the network this is, `block_index` is set for each layer.
    """
    batch, _, height, width = x.shape
    options["activations_shape"] = list(x.shape)
    linear = transformer.use_linear_projection
    h: Tensor = transformer.norm(x)
    if not linear:
        h = transformer.proj_in(h)
    h = h.permute(0, 2, 3, 1).reshape(batch, height * width, -1)
    if linear:
        h = transformer.proj_in(h)
    for index, layer in enumerate(transformer.transformer_blocks):
        options["block_index"] = index
        h = _layer(layer, h, context, options)
    if linear:
        h = transformer.proj_out(h)
    h = h.reshape(batch, height, width, -1).permute(0, 3, 1, 2).contiguous()
    if not linear:
        h = transformer.proj_out(h)
    return h + x


def _layer(layer: Any, x: Tensor, context: Tensor, options: Options) -> Tensor:
    """A layer with its hooks: `attn1_*` for the look at itself, `attn2_*` for that at the text, `middle_patch` between.

    Hooks get (n, context, value, extra_options) before, (q, k, v, extra_options) instead, (n, extra_options) after.
    """
    patches: Mapping[str, list[Callable[..., Any]]] = options.get("patches", {})
    replaced: Mapping[str, Mapping[Any, Callable[..., Tensor]]] = options.get("patches_replace", {})
    extra = {key: each for key, each in options.items() if key not in ("patches", "patches_replace")}
    extra |= {"n_heads": layer.attn1.heads, "dim_head": layer.attention_head_dim, "attn_precision": None}
    place = (*options["block"], options["block_index"])

    normed = layer.norm1(x)
    seen = context if layer.only_cross_attention else None
    x = _attend("attn1", layer.attn1, normed, seen, place, patches, replaced, extra) + x
    for patch in patches.get("middle_patch", ()):
        x = patch(x, extra)
    if layer.attn2 is not None:
        x = _attend("attn2", layer.attn2, layer.norm2(x), context, place, patches, replaced, extra) + x
    forward: Tensor = layer.ff(layer.norm3(x))
    return forward + x


def _attend(
    name: str,
    module: Any,
    n: Tensor,
    context: Tensor | None,
    place: tuple[str, int, int],
    patches: Mapping[str, list[Callable[..., Any]]],
    replaced: Mapping[str, Mapping[Any, Callable[..., Tensor]]],
    extra: Options,
) -> Tensor:
    """One attention. context: what is looked at, None for n itself."""
    value = None
    for patch in patches.get(f"{name}_patch", ()):
        looked = n if context is None else context
        n, context, value = patch(n, looked, looked if value is None else value, extra)
    keys = n if context is None else context
    q, k, v = module.to_q(n), module.to_k(keys), module.to_v(keys if value is None else value)
    instead = replaced.get(name, {})
    function = instead.get(place, instead.get(place[:2]))
    if function is not None:
        n = function(q, k, v, extra)
    else:
        n = attention(q, k, v, module.heads, transformer_options=extra)
    for part in module.to_out:
        n = part(n)
    for patch in patches.get(f"{name}_output_patch", ()):
        n = patch(n, extra)
    return n
