"""run(): Z-Image, layer by layer."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from limner.errors import UnfitInput
from limner.models.attention import attention
from limner.models.flow.joint import Args, Options, run_block
from limner.models.flow.tokens import EDGE, padded
from limner.models.flow.z_image_layout import PATCH, PLACES

STEP = 32
"""Texts and pictures are filled up to a multiple of so many tokens, by one that was learned for it."""

_options: ContextVar[Options | None] = ContextVar("limner_z_image_options", default=None)


class SingleAttention:
    """What diffusers calls a processor: attention of tokens in one row, through Limner's own function."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,  # noqa: ARG002 - diffusers passes it
        attention_mask: Tensor | None = None,
        freqs_cis: Tensor | None = None,
    ) -> Tensor:
        """hidden_states: (B, n, width). freqs_cis: (1, n, half a head), by which q and k are turned."""
        q, k, v = (
            each.reshape(*each.shape[:2], attn.heads, -1)
            for each in (attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states))
        )
        q, k = attn.norm_q(q), attn.norm_k(k)
        if freqs_cis is not None:
            q, k = _turned(q, freqs_cis), _turned(k, freqs_cis)
        q, k, v = (each.flatten(2) for each in (q, k, v))
        seen = attention(q, k, v, attn.heads, attention_mask, transformer_options=_options.get())
        answer: Tensor = attn.to_out[0](seen)
        return answer


def use_single_attention(network: nn.Module) -> None:
    """Puts `SingleAttention` into every attention of a network of diffusers."""
    for module in network.modules():
        if hasattr(module, "set_processor") and hasattr(module, "to_q"):
            module.set_processor(SingleAttention())  # type: ignore[operator]


def run(network: Any, x: Tensor, timestep: Tensor, context: Tensor, *, options: Options) -> Tensor:
    """Which way x moves, (B, C, h, w): what diffusers' ZImageTransformer2DModel answers, which tells the way back.

    x: (B, C, h, w). timestep: levels 0..1 (B,); the network is told how clean x is. context: (B, tokens, width).
    options: `transformer_options`. Raises UnfitInput for a picture or a text beyond what the network knows places for.
    """
    height, width = x.shape[-2:]
    x = padded(x)
    tall, wide = (edge // EDGE for edge in x.shape[-2:])
    text, picture = _filled(context.shape[1]), _filled(tall * wide)
    _check_places(text, tall, wide)
    vec = network.t_embedder((1 - timestep.float()) * network.t_scale).to(x.dtype)
    token = _options.set(options)
    try:
        img_ids, txt_ids = _places(text, tall, wide, picture, x.device)
        img = _rows(network.all_x_embedder[PATCH](_tokens(x)), picture, network.x_pad_token)
        txt = _rows(network.cap_embedder(context), text, network.cap_pad_token)
        img_pe, txt_pe = (network.rope_embedder(ids)[None] for ids in (img_ids, txt_ids))
        for layer in network.noise_refiner:
            img = layer(img, None, img_pe, vec)
        for layer in network.context_refiner:
            txt = layer(txt, None, txt_pe)
        joint, pe = torch.cat([img, txt], dim=1), torch.cat([img_pe, txt_pe], dim=1)
        for number, layer in enumerate(network.layers):
            place = ("double_block", number)
            _options.set({**options, "block": place, "total_blocks": len(network.layers)})
            joint = run_block(place, _layer(layer), {"img": joint, "vec": vec, "pe": pe}, options)["img"]
        answer = network.all_final_layer[PATCH](joint, c=vec)[:, : tall * wide]
    finally:
        _options.reset(token)
    squares = answer.reshape(len(x), tall, wide, EDGE, EDGE, -1).permute(0, 5, 1, 3, 2, 4)
    whole: Tensor = squares.reshape(len(x), -1, tall * EDGE, wide * EDGE)
    return -whole[..., :height, :width]


def _tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) to (B, tokens, 4 * C), each token by row, then column, then channel."""
    batch, channels, height, width = x.shape
    squares = x.reshape(batch, channels, height // EDGE, EDGE, width // EDGE, EDGE)
    return squares.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, EDGE**2 * channels)


def _rows(tokens: Tensor, count: int, filler: Tensor) -> Tensor:
    """The tokens with the learned one behind them, up to this many."""
    more = count - tokens.shape[1]
    return torch.cat([tokens, filler.to(tokens).expand(len(tokens), more, -1)], dim=1)


def _places(text: int, tall: int, wide: int, picture: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each token of the picture and of the text lies: one behind the other, and the picture's row and column."""
    rows, columns = torch.meshgrid(torch.arange(tall), torch.arange(wide), indexing="ij")
    img = torch.stack([torch.full_like(rows, text + 1), rows, columns], dim=-1).reshape(-1, 3)
    img = torch.cat([img, img.new_zeros(picture - len(img), 3)])
    txt = torch.zeros(text, 3, dtype=torch.long)
    txt[:, 0] = torch.arange(1, text + 1)
    return img.to(device), txt.to(device)


def _check_places(text: int, tall: int, wide: int) -> None:
    if max(tall, wide) > PLACES[1]:
        most = PLACES[1] * EDGE
        raise UnfitInput(
            f"a latent of {wide * EDGE}x{tall * EDGE} places is too large: this model knows up to {most}x{most}"
        )
    if text + 2 > PLACES[0]:
        raise UnfitInput(f"a prompt of {text} tokens is too long: this model knows up to {PLACES[0] - STEP}")


def _filled(tokens: int) -> int:
    return -(-tokens // STEP) * STEP


def _turned(x: Tensor, by: Tensor) -> Tensor:
    """x (B, n, heads, d), its values two by two turned by complex numbers (1, n, d / 2)."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * by.unsqueeze(2)).flatten(3).to(x.dtype)


def _layer(layer: Any) -> Any:
    def original(args: Args) -> Args:
        return {"img": layer(args["img"], None, args["pe"], args["vec"])}

    return original
