"""run(): Flux.1, block by block, with reference pictures beside the latent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limner.models.flow.biases import Bias, scores
from limner.models.flow.joint import Args, Options, run_block
from limner.models.flow.tokens import EDGE, into_tokens, out_of_tokens, padded

TIMES = 1000.0
"""Levels and guidance are told in thousandths."""


def run(
    network: Any,
    x: Tensor,
    timestep: Tensor,
    context: Tensor,
    *,
    y: Tensor,
    guidance: Tensor | None = None,
    references: Sequence[Tensor] = (),
    method: str = "offset",
    biases: Sequence[Bias] = (),
    options: Options,
) -> Tensor:
    """What diffusers' FluxTransformer2DModel answers, (B, 16, h, w). Its own forward gives the same without hooks.

    x: (B, C, h, w), of any size. timestep: levels (B,). context: (B, tokens, width). y: (B, P). guidance: (B,), for
    networks that were distilled with it; None tells nothing of it. references: pictures (B, C, h, w) to go by, placed
    as `method` says (see `places`). biases: how much tokens of the text are heeded. options: `transformer_options`.
    """
    height, width = x.shape[-2:]
    pictures = [padded(each) for each in (x, *references)]
    rows = torch.cat([into_tokens(each) for each in pictures], dim=1)
    told = torch.zeros(context.shape[1], 3, device=x.device)
    pe = network.pos_embed(torch.cat([told, places([each.shape[-2:] for each in pictures], method, x.device)]))
    vec = _embedded(network, x.dtype, timestep, guidance, y)
    img, txt = network.x_embedder(rows), network.context_embedder(context)
    mask = scores(biases, txt.shape[1] + img.shape[1], img)
    options = {**options, "total_blocks": len(network.transformer_blocks)}
    for number, block in enumerate(network.transformer_blocks):
        options["block"] = place = ("double_block", number)
        args = {"img": img, "txt": txt, "vec": vec, "pe": pe, "attn_mask": mask}
        made = run_block(place, _double(block, options), args, options)
        img, txt = made["img"], made["txt"]
    joint = torch.cat([txt, img], dim=1)
    for number, block in enumerate(network.single_transformer_blocks):
        options["block"] = place = ("single_block", number)
        args = {"img": joint, "vec": vec, "pe": pe, "attn_mask": mask}
        joint = run_block(place, _single(block, options), args, options)["img"]
    tall, wide = pictures[0].shape[-2:]
    own = joint[:, txt.shape[1] : txt.shape[1] + tall * wide // EDGE**2]
    answer = network.proj_out(network.norm_out(own, vec))
    return out_of_tokens(answer, tall, wide)[..., :height, :width]


def places(edges: Sequence[Sequence[int]], method: str, device: torch.device) -> Tensor:
    """Where each token lies: (tokens, 3), the number of its picture, its row, its column.

    edges: of the latent and then of each reference, in places. method: `offset` lays the references out on one sheet,
    each beside or below the former ones, so that the sheet stays nearly square; `index` gives each a sheet of its own,
    as one reference has it with either (Batifol et al. 2025, FLUX.1 Kontext, arXiv:2506.15742, section 3); `uxo` puts
    each on the latent's sheet, diagonally behind all before it (Wu et al. 2025, UNO, arXiv:2504.02160, section 3.2).
    """
    tokens = [(tall // EDGE, wide // EDGE) for tall, wide in edges]
    found = [_grid(0, 0, 0, *tokens[0], device)]
    sheet = tokens[0] if method == "uxo" else (0, 0)
    for number, (tall, wide) in enumerate(tokens[1:], start=1):
        if method == "index":
            found.append(_grid(number, 0, 0, tall, wide, device))
        elif method == "uxo":
            found.append(_grid(0, *sheet, tall, wide, device))
            sheet = (sheet[0] + tall, sheet[1] + wide)
        else:
            top, left = (0, sheet[1]) if sheet[0] + tall > sheet[1] + wide else (sheet[0], 0)
            found.append(_grid(1, top, left, tall, wide, device))
            sheet = (max(sheet[0], top + tall), max(sheet[1], left + wide))
    return torch.cat(found)


def _grid(number: int, top: int, left: int, tall: int, wide: int, device: torch.device) -> Tensor:
    rows, columns = torch.arange(top, top + tall), torch.arange(left, left + wide)
    grid = torch.stack([torch.full((tall, wide), number), *torch.meshgrid(rows, columns, indexing="ij")], dim=-1)
    return grid.reshape(-1, 3).to(device, torch.float32)


def _embedded(network: Any, dtype: torch.dtype, timestep: Tensor, guidance: Tensor | None, y: Tensor) -> Tensor:
    """The level, the guidance and the text's vector in one, (B, width). Levels are told in float32."""
    known = network.time_text_embed
    vec: Tensor = known.text_embedder(y.to(dtype)) + known.timestep_embedder(
        known.time_proj(timestep.float() * TIMES).to(dtype)
    )
    if guidance is not None and hasattr(known, "guidance_embedder"):
        vec = vec + known.guidance_embedder(known.time_proj(guidance.float() * TIMES).to(dtype))
    return vec


def _double(block: Any, options: Options) -> Any:
    def original(args: Args) -> Args:
        txt, img = block(
            hidden_states=args["img"],
            encoder_hidden_states=args["txt"],
            temb=args["vec"],
            image_rotary_emb=args["pe"],
            joint_attention_kwargs={"transformer_options": options, "attention_mask": args.get("attn_mask")},
        )
        return {"img": img, "txt": txt}

    return original


def _single(block: Any, options: Options) -> Any:
    def original(args: Args) -> Args:
        joint = args["img"]
        _, joint = block(
            hidden_states=joint,
            encoder_hidden_states=joint[:, :0],  # the text stands in the same row already
            temb=args["vec"],
            image_rotary_emb=args["pe"],
            joint_attention_kwargs={"transformer_options": options, "attention_mask": args.get("attn_mask")},
        )
        return {"img": joint}

    return original
