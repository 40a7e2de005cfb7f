"""Qwen3, a language model whose states some image models read. Yang et al. 2025, arXiv:2505.09388."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from limner.models.build import build
from limner.models.checkpoint import Header
from limner.models.keys import KeyMap, Place
from limner.models.text.encoder import Choice, Ids, TextEncoder, is_last
from limner.models.weights import Weights

NAME = "qwen3_4b"
BASE = "model."
ROPE_THETA = 1_000_000.0
TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
"""A prompt as the question of a dialogue, whose answer is about to begin."""


class QwenEncoder(TextEncoder):
    """Qwen3 without its head, of any size. It has no pooled vector."""

    @property
    def table(self) -> nn.Embedding:
        return cast(nn.Embedding, self.transformer.get_submodule("embed_tokens"))

    @property
    def keys(self) -> KeyMap:
        return KeyMap({
            f"{self.name}.transformer.{BASE}{name}": (Place(f"transformer.{name}"),)
            for name in self.transformer.state_dict()
        })  # fmt: skip

    def read(self, ids: Tensor, choice: Choice) -> tuple[Tensor, Tensor | None]:
        seen = self.transformer(input_ids=ids, output_hidden_states=True, use_cache=False)
        if is_last(choice, len(seen.hidden_states) - 1) or choice.layer == -1:
            return seen.last_hidden_state, None
        chosen: Tensor = seen.hidden_states[cast(int, choice.layer)]
        norm = self.transformer.get_submodule("norm")
        return norm(chosen) if choice.normed else chosen, None


def qwen_config(header: Header) -> dict[str, Any]:
    """Arguments of Qwen3Config, from the shapes of a model's weights."""
    first = f"{BASE}layers.0."
    head = header.size(f"{first}self_attn.q_norm.weight")
    return {
        "vocab_size": header.size(f"{BASE}embed_tokens.weight"),
        "hidden_size": header.size(f"{BASE}embed_tokens.weight", 1),
        "intermediate_size": header.size(f"{first}mlp.gate_proj.weight"),
        "num_hidden_layers": header.count(f"{BASE}layers.{{}}."),
        "num_attention_heads": header.size(f"{first}self_attn.q_proj.weight") // head,
        "num_key_value_heads": header.size(f"{first}self_attn.k_proj.weight") // head,
        "head_dim": head,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
        "max_position_embeddings": 40960,
    }


def qwen(weights: Weights, *, ids: Ids) -> QwenEncoder:
    """The model in a file. Raises ModelFileError where weights are missing, superfluous or do not fit."""
    from transformers.models.qwen3.configuration_qwen3 import Qwen3Config
    from transformers.models.qwen3.modeling_qwen3 import Qwen3Model

    config = qwen_config(weights.header)
    own = weights.under(BASE)
    transformer = build(lambda: Qwen3Model(Qwen3Config(**config)), own.tensors(), header=own.header, part="Qwen3")
    return QwenEncoder(
        name=NAME, transformer=transformer, width=config["hidden_size"], ids=ids, heads=config["num_attention_heads"]
    )
