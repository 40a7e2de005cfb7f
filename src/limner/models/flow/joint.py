"""Transformers in which text and picture look at each other: their attention, and the hooks on their blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn

from limner.errors import UnfitInput
from limner.models.attention import attention

Options = dict[str, Any]
Args = dict[str, Any]
Block = Callable[[Args], Args]


class JointAttention:
    """What diffusers calls a processor: attention over picture and text together, through Limner's own function.

    So it can be sliced where memory is short, and packs can put another in its place. Esser et al. 2024 (SD3),
    arXiv:2403.03206, section 4; positions of tokens are turned into q and k as in Su et al. 2021, arXiv:2104.09864.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        transformer_options: Options | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """hidden_states: the picture's tokens (B, n, width). encoder_hidden_states: the text's, None where one row has
        both. Gives the same for both.
        """
        q, k, v = (_by_head(projection(hidden_states), attn.heads) for projection in (attn.to_q, attn.to_k, attn.to_v))
        q, k = _normed(q, attn.norm_q), _normed(k, attn.norm_k)
        text = 0
        if encoder_hidden_states is not None:
            text = encoder_hidden_states.shape[1]
            projections = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
            text_q, text_k, text_v = (_by_head(each(encoder_hidden_states), attn.heads) for each in projections)
            text_q, text_k = _normed(text_q, attn.norm_added_q), _normed(text_k, attn.norm_added_k)
            q, k, v = torch.cat([text_q, q], dim=1), torch.cat([text_k, k], dim=1), torch.cat([text_v, v], dim=1)
        if image_rotary_emb is not None:
            q, k = (apply_rotary_emb(each, image_rotary_emb, sequence_dim=1) for each in (q, k))
        q, k, v = (each.flatten(2) for each in (q, k, v))
        seen = attention(q, k, v, attn.heads, attention_mask, transformer_options=transformer_options)
        if encoder_hidden_states is None:
            return seen if attn.pre_only else _out(attn, seen)
        told = seen[:, :text]
        return _out(attn, seen[:, text:]), told if attn.context_pre_only else attn.to_add_out(told)


def use_joint_attention(network: nn.Module) -> None:
    """Puts `JointAttention` into every attention of a network of diffusers."""
    for module in network.modules():
        if hasattr(module, "set_processor") and hasattr(module, "to_q"):
            module.set_processor(JointAttention())  # type: ignore[operator]


def run_block(place: tuple[str, int], block: Block, args: Args, options: Mapping[str, Any]) -> Args:
    """What a block makes of these, or what stands in its place (`patches_replace["dit"]`) as node packs know it.

    A replacement is called as (args, {"original_block": block}); `img` and `txt` of what it gives are taken.
    """
    instead = options.get("patches_replace", {}).get("dit", {}).get(place)
    given: Args = block(args) if instead is None else instead(args, {"original_block": block})
    return given


def refuse_control(control: Mapping[str, Any] | None, name: str) -> None:
    """Raises UnfitInput where a control network has something to add: none for transformers is read yet."""
    if control and any(each is not None for residuals in control.values() for each in residuals):
        raise UnfitInput(f"{name} is a transformer, whose control networks this version does not run")


def _by_head(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:-1], heads, -1)


def _normed(x: Tensor, norm: nn.Module | None) -> Tensor:
    if norm is not None:
        x = norm(x)
    return x


def _out(attn: Any, x: Tensor) -> Tensor:
    for part in attn.to_out:
        x = part(x)
    return x
