"""Small text encoders with random weights, in files as the real ones come: CLIP-L, OpenCLIP H and G, T5, Qwen3.

Each maker writes a file and gives the network of transformers that it holds, to compare with.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5EncoderModel

from limner.models.text.layouts import to_open_clip

SPIECE = Path(__file__).parents[2] / "data/text/spiece.model"
"""A SentencePiece vocabulary of 300 pieces: 0 pad, 1 end, 2 unknown."""

VOCABULARY = 49408
LAYERS = 3


def clip(name: str, *, width: int = 64, layers: int = LAYERS) -> CLIPTextModelWithProjection:
    """The network of clip_l, clip_h or clip_g, of any size."""
    torch.manual_seed(sum(map(ord, name)))
    made = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            projection_dim=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // 64),
            hidden_act="quick_gelu" if name == "clip_l" else "gelu",
            eos_token_id=VOCABULARY - 1,
        )
    ).eval()
    _roughen(made)
    return made


def clip_weights(made: CLIPTextModelWithProjection, layout: str, prefix: str = "") -> dict[str, Tensor]:
    """Its weights as in a file; layout: "transformers" or "open_clip"."""
    weights = dict(made.state_dict())
    if layout == "transformers":
        return {prefix + key: weight for key, weight in weights.items()}
    return to_open_clip({key.removeprefix("text_model."): weight for key, weight in weights.items()}, prefix)


def save_clip(path: Path, name: str, *, layout: str = "transformers", width: int = 64) -> CLIPTextModelWithProjection:
    """A file as CLIPLoader reads it. The metadata tells the kind, which such small networks do not show."""
    made = clip(name, width=width)
    save(path, clip_weights(made, layout), {"text": {"kind": name}})
    return made


def t5(*, width: int = 64, vocabulary: int = 300) -> T5EncoderModel:
    """A T5 of version 1.1. Its heads have another width than `width / heads`, as T5-XXL's might."""
    torch.manual_seed(5)
    made = T5EncoderModel(
        T5Config(
            vocab_size=vocabulary,
            d_model=width,
            d_kv=16,
            d_ff=96,
            num_layers=LAYERS,
            num_heads=2,
            feed_forward_proj="gated-gelu",
        )
    ).eval()
    _roughen(made)
    return made


def save_t5(path: Path, *, width: int = 64, inside: bool = True) -> T5EncoderModel:
    """A T5 file. inside: with its tokenizer as the tensor `spiece_model`; else spiece.model is put beside the file."""
    made = t5(width=width)
    weights = {key: weight for key, weight in made.state_dict().items() if key != "encoder.embed_tokens.weight"}
    if inside:
        weights["spiece_model"] = torch.frombuffer(bytearray(SPIECE.read_bytes()), dtype=torch.uint8)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SPIECE, path.parent / "spiece.model")
    save(path, weights)
    return made


def save_qwen(path: Path, *, width: int = 64) -> Qwen3Model:
    """A Qwen3 file with its tokenizer.json beside it."""
    torch.manual_seed(7)
    made = Qwen3Model(
        Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=width,
            intermediate_size=96,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        )
    ).eval()
    _roughen(made)
    save(path, {f"model.{key}": weight for key, weight in made.state_dict().items()})
    words = ["[UNK]", "<|im_start|>", "<|im_end|>", "user", "assistant", "a", "cat", "(", ")", ":", "1", ".", "5"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.save(str(path.parent / f"{path.stem}.tokenizer.json"))
    return made


def save(path: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> Path:
    """A safetensors file of these weights, with `limner.config` in its metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = None if config is None else {"limner.config": json.dumps(config)}
    save_file({key: weight.contiguous() for key, weight in weights.items()}, path, told)
    return path


def _roughen(module: nn.Module) -> None:
    """Weights as uneven as trained ones: of norms and biases too, so that none can be forgotten unnoticed."""
    for weight in module.parameters():
        nn.init.normal_(weight, mean=float(weight.ndim == 1) / 2, std=0.15)


def plain(made: CLIPTextModelWithProjection) -> CLIPTextModel:
    """The network without its projection."""
    inner: CLIPTextModel = made.text_model
    return inner
