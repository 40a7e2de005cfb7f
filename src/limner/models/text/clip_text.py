"""CLIP's text network: OpenAI's (CLIP-L) and OpenCLIP's (H and G). Radford et al. 2021, arXiv:2103.00020."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from limner.models.build import build
from limner.models.checkpoint import Header
from limner.models.keys import KeyMap, Place
from limner.models.text.encoder import Choice, TextEncoder, is_last
from limner.models.text.tokenizer import END, START, ClipTokenizer, tokenizer

PROJECTION = "text_projection.weight"

ACTIVATIONS = {"clip_l": "quick_gelu", "clip_h": "gelu", "clip_g": "gelu"}


class ClipEncoder(TextEncoder):
    """CLIP's text network with its projection, if it has one.

    rows: the embedding row of each token, where its vocabulary is a small one.
    """

    start, end = START, END

    def __init__(
        self,
        *,
        name: str,
        transformer: nn.Module,
        width: int,
        length: int,
        rows: Mapping[int, int] | None = None,
        projection: nn.Linear | None = None,
    ) -> None:
        super().__init__(name=name, transformer=transformer, width=width, ids=_ids)
        self.length = length
        self.rows = rows
        self.text_projection = projection

    @property
    def table(self) -> nn.Embedding:
        return cast(nn.Embedding, self.transformer.get_submodule("embeddings.token_embedding"))

    @property
    def keys(self) -> KeyMap:
        places = {
            f"{self.name}.transformer.text_model.{key}": (Place(f"transformer.{key}"),)
            for key in self.transformer.state_dict()
        }
        if self.text_projection is not None:
            places[f"{self.name}.transformer.{PROJECTION}"] = (Place(PROJECTION),)
        return KeyMap(places)

    def row(self, token: int) -> int:
        return token if self.rows is None else self.rows.get(token, 0)

    def read(self, ids: Tensor, choice: Choice) -> tuple[Tensor, Tensor | None]:
        """The pooled vector is the last layer's state at the first end token, through the norm."""
        seen = self.transformer(ids, output_hidden_states=True)
        last: Tensor = seen.last_hidden_state
        ends = (ids == self.row(END)).int().argmax(dim=1)
        pooled = last[torch.arange(len(ids), device=ids.device), ends]
        if choice.projected and self.text_projection is not None:
            pooled = self.text_projection(pooled)
        if is_last(choice, len(seen.hidden_states) - 1):
            return last, pooled
        chosen: Tensor = seen.hidden_states[cast(int, choice.layer)]
        return self._norm(chosen) if choice.normed else chosen, pooled

    def _norm(self, states: Tensor) -> Tensor:
        normed: Tensor = self.transformer.get_submodule("final_layer_norm")(states)
        return normed


def _ids(text: str) -> list[int]:
    known: ClipTokenizer = tokenizer()
    return known(text)


def clip_text(
    header: Header,
    weights: Mapping[str, Tensor],
    *,
    name: str,
    rows: Mapping[int, int] | None = None,
) -> ClipEncoder:
    """The encoder `name` (clip_l, clip_h or clip_g) from weights under transformers' keys without any prefix.

    weights: `embeddings...`, `encoder...`, `final_layer_norm...`, and `text_projection.weight` if there is one; see
    `layouts`. rows: see ClipEncoder. Raises ModelFileError where weights are missing, superfluous or do not fit.
    """
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    config = clip_config(header, weights, name)
    own = {key: weight for key, weight in weights.items() if key != PROJECTION}
    transformer = build(
        lambda: CLIPTextModel(CLIPTextConfig(**config)),
        own,
        header=header,
        part="text encoder",
    )
    projection = None
    if PROJECTION in weights:
        out, width = weights[PROJECTION].shape
        projection = build(
            lambda: nn.Linear(width, out, bias=False),
            {"weight": weights[PROJECTION]},
            header=header,
            part="text projection",
        )
        if width != config["hidden_size"]:
            raise header.fault(f"its text projection takes width {width}, its text encoder has {config['hidden_size']}")
    return ClipEncoder(
        name=name,
        transformer=transformer,
        width=config["hidden_size"],
        length=config["max_position_embeddings"],
        rows=rows,
        projection=projection,
    )


def clip_config(header: Header, weights: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """Arguments of CLIPTextConfig, from the shapes of the weights of one encoder."""
    rows, width = _shaped(header, weights, "embeddings.token_embedding.weight")
    layers = 0
    while f"encoder.layers.{layers}.layer_norm1.weight" in weights:
        layers += 1
    heads = header.number(name, "num_heads") or header.number("text", "num_heads")
    return {
        "vocab_size": rows,
        "hidden_size": width,
        "intermediate_size": _shaped(header, weights, "encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": layers,
        "num_attention_heads": heads or max(1, width // 64),
        "max_position_embeddings": _shaped(header, weights, "embeddings.position_embedding.weight")[0],
        "hidden_act": ACTIVATIONS[name],
        "eos_token_id": rows - 1,  # the end token has the last row, in the whole vocabulary and in small ones
        "bos_token_id": rows - 2,
        "pad_token_id": rows - 1,
    }


def _shaped(header: Header, weights: Mapping[str, Tensor], key: str) -> tuple[int, int]:
    weight = weights.get(key)
    if weight is None or weight.ndim != 2:
        raise header.fault(f"its text encoder has no usable {key}")
    return weight.shape[0], weight.shape[1]
