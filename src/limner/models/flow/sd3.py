"""run(): Stable Diffusion 3, block by block."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from limner.errors import UnfitInput
from limner.models.flow.joint import Args, Options, run_block
from limner.models.flow.tokens import EDGE, padded


def run(network: Any, x: Tensor, timestep: Tensor, context: Tensor, *, y: Tensor, options: Options) -> Tensor:
    """What diffusers' SD3Transformer2DModel answers, (B, C, h, w). Its own forward gives the same without hooks.

    x: (B, C, h, w), of any size up to the network's. timestep: 0..1000 (B,). context: (B, tokens, width). y: (B, P).
    options: `transformer_options`. Raises UnfitInput for a latent that is larger than the network knows places for.
    """
    height, width = x.shape[-2:]
    x = padded(x)
    tall, wide = (edge // EDGE for edge in x.shape[-2:])
    known = network.pos_embed
    img = known.proj(x).flatten(2).transpose(1, 2) + _places(known, tall, wide).to(x.dtype)
    times = network.time_text_embed
    vec = times.timestep_embedder(times.time_proj(timestep.float()).to(x.dtype)) + times.text_embedder(y.to(x.dtype))
    txt: Tensor | None = network.context_embedder(context)
    options = {**options, "total_blocks": len(network.transformer_blocks)}
    for number, block in enumerate(network.transformer_blocks):
        options["block"] = place = ("double_block", number)
        made = run_block(place, _joint(block, options), {"img": img, "txt": txt, "vec": vec}, options)
        img, txt = made["img"], made["txt"]
    answer = network.proj_out(network.norm_out(img, vec)).transpose(1, 2)  # its values go by row, column, channel
    squares = answer.reshape(len(x), EDGE, EDGE, -1, tall, wide).permute(0, 3, 4, 1, 5, 2)
    whole: Tensor = squares.reshape(len(x), -1, tall * EDGE, wide * EDGE)
    return whole[..., :height, :width]


def _places(known: Any, tall: int, wide: int) -> Tensor:
    """What tells each token where it lies: the middle of the square that the network knows, (1, tokens, width)."""
    edge = known.pos_embed_max_size
    if max(tall, wide) > edge:
        most = edge * EDGE
        raise UnfitInput(
            f"a latent of {wide * EDGE}x{tall * EDGE} places is too large: this model knows up to {most}x{most}"
        )
    top, left = (edge - tall) // 2, (edge - wide) // 2
    square: Tensor = known.pos_embed.view(edge, edge, -1)
    return square[top : top + tall, left : left + wide].reshape(1, tall * wide, -1)


def _joint(block: Any, options: Options) -> Any:
    def original(args: Args) -> Args:
        txt, img = block(
            hidden_states=args["img"],
            encoder_hidden_states=args["txt"],
            temb=args["vec"],
            joint_attention_kwargs={"transformer_options": options},
        )
        return {"img": img, "txt": txt}

    return original
