"""T5's encoder. Raffel et al. 2019, arXiv:1910.10683; version 1.1 with gated layers, as image models use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from limner.models.build import build
from limner.models.checkpoint import Header
from limner.models.keys import KeyMap, Place
from limner.models.text.encoder import Choice, Ids, TextEncoder, is_last

NAME = "t5xxl"
END = 1
SHARED, TIED = "shared.weight", "encoder.embed_tokens.weight"
FIRST = "encoder.block.0.layer.0.SelfAttention."
GATE = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"
NOT_READ = ("decoder.", "lm_head.", "spiece_model")


class T5Encoder(TextEncoder):
    """T5's encoder, of any size. It has no pooled vector."""

    end = END

    @property
    def table(self) -> nn.Embedding:
        return cast(nn.Embedding, self.transformer.get_submodule("encoder.embed_tokens"))

    @property
    def keys(self) -> KeyMap:
        places = {
            f"{self.name}.transformer.{name}": (Place(f"transformer.{name}"),)
            for name in self.transformer.state_dict()
            if name != TIED  # one table under two names; files have the other
        }
        return KeyMap(places)

    def read(self, ids: Tensor, choice: Choice) -> tuple[Tensor, Tensor | None]:
        """Padding is read like any other token: Flux.1 and Stable Diffusion 3 mask none of it."""
        seen = self.transformer(input_ids=ids, output_hidden_states=True)
        if is_last(choice, len(seen.hidden_states) - 1) or choice.layer == -1:
            return seen.last_hidden_state, None
        chosen: Tensor = seen.hidden_states[cast(int, choice.layer)]
        norm = self.transformer.get_submodule("encoder.final_layer_norm")
        return norm(chosen) if choice.normed else chosen, None


def table_key(header: Header) -> str:
    """The key of the embedding in this file, which has one or two of them. Raises ModelFileError."""
    found = next((key for key in (SHARED, TIED) if key in header), None)
    if found is None:
        raise header.fault(f"its text encoder has no {header.part}{SHARED}")
    return found


def t5_config(header: Header) -> dict[str, Any]:
    """Arguments of T5Config, from the shapes of an encoder's weights. Raises ModelFileError for T5 before 1.1."""
    if GATE not in header:
        raise header.fault("its text encoder is a T5 without gated layers (before version 1.1)")
    table = table_key(header)
    buckets, heads = (header.size(f"{FIRST}relative_attention_bias.weight", axis) for axis in (0, 1))
    return {
        "vocab_size": header.size(table),
        "d_model": header.size(table, 1),
        "d_kv": header.size(f"{FIRST}q.weight") // heads,
        "d_ff": header.size(GATE),
        "num_layers": header.count("encoder.block.{}."),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
    }


def t5(header: Header, tensors: Mapping[str, Tensor], *, ids: Ids) -> T5Encoder:
    """The encoder of a file, or of a part of one. Raises ModelFileError where weights are missing or do not fit."""
    from transformers.models.t5.configuration_t5 import T5Config
    from transformers.models.t5.modeling_t5 import T5EncoderModel

    config = t5_config(header)
    own = {key: tensor for key, tensor in tensors.items() if not key.startswith(NOT_READ)}
    own[SHARED] = own[TIED] = own[table_key(header)]
    transformer = build(lambda: T5EncoderModel(T5Config(**config)), own, header=header, part="T5 text encoder")
    transformer.encoder.embed_tokens = transformer.shared  # so that the table is one for both names
    return T5Encoder(name=NAME, transformer=transformer, width=config["d_model"], ids=ids, heads=config["num_heads"])
