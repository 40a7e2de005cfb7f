"""What text encoder a file holds, told from its keys and shapes."""

from __future__ import annotations

from limner.models.checkpoint import Header

CLIP_WIDTHS = {768: "clip_l", 1024: "clip_h", 1280: "clip_g"}
CLIP_DEPTHS = ((32, "clip_g"), (23, "clip_h"))
"""Of encoders with other widths: layers from which on a name holds."""

TITLES = {
    "clip_l": "CLIP-L",
    "clip_h": "OpenCLIP-H",
    "clip_g": "OpenCLIP-G",
    "t5xxl": "a T5 encoder",
    "qwen3_4b": "Qwen3",
}

OTHERS = (
    ("encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight", "UMT5"),
    ("encoder.block.0.", "a T5 of another version than 1.1"),
    ("model.layers.0.post_feedforward_layernorm.", "Gemma"),
    ("visual.patch_embed.", "a Qwen language model that sees pictures"),
    ("model.layers.0.self_attn.q_proj.bias", "Qwen2 or Qwen2.5"),
    ("model.layers.0.", "a language model of another kind than Qwen3"),
    ("vision_model.encoder.", "a CLIP vision model"),
    ("lora_", "a LoRA"),
    ("model.diffusion_model.", "a checkpoint, for CheckpointLoaderSimple"),
    ("double_blocks.0.", "a denoising model, for UNETLoader"),
    ("joint_blocks.0.", "a denoising model, for UNETLoader"),
    ("input_blocks.0.", "a denoising model, for UNETLoader"),
    ("decoder.conv_in.", "a VAE, for VAELoader"),
)
"""Beginnings of keys, and what a file with such a key is; the first that fits counts."""

OPEN_CLIP_MARK = "transformer.resblocks.0.ln_1.weight"
CLIP_MARK = "encoder.layers.0.layer_norm1.weight"
T5_MARK = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"
UMT5_MARK = OTHERS[0][0]
QWEN3_MARK = "model.layers.0.self_attn.q_norm.weight"


def kind_of(header: Header) -> str:
    """The name of the encoder in this file: clip_l, clip_h, clip_g, t5xxl or qwen3_4b.

    The metadata `limner.config` may tell it as {"text": {"kind": "clip_g"}}, where width and depth do not. Raises
    ModelFileError, saying what the file looks like, where it is none of these.
    """
    told = header.told().get("text", {})
    if isinstance(told, dict) and "kind" in told:
        if told["kind"] not in TITLES:
            raise header.fault(f"its metadata limner.config says text.kind = {told['kind']!r}, not {', '.join(TITLES)}")
        return str(told["kind"])
    if OPEN_CLIP_MARK in header:
        return _clip(header, "token_embedding.weight", "transformer.resblocks.{}.")
    for prefix in ("text_model.", ""):
        if f"{prefix}{CLIP_MARK}" in header:
            return _clip(header, f"{prefix}embeddings.token_embedding.weight", f"{prefix}encoder.layers.{{}}.")
    if T5_MARK in header and UMT5_MARK not in header:
        return "t5xxl"
    if QWEN3_MARK in header:
        return "qwen3_4b"
    looks = next((what for start, what in OTHERS if header.has(start)), None)
    raise header.fault(
        f"it {f'looks like {looks}' if looks else 'is no text encoder'}; "
        f"text encoders that this version reads: {', '.join(TITLES.values())}"
    )


def _clip(header: Header, table: str, layer: str) -> str:
    width = header.size(table, 1)
    if width in CLIP_WIDTHS:
        return CLIP_WIDTHS[width]
    depth = header.count(layer)
    return next((name for least, name in CLIP_DEPTHS if depth >= least), "clip_l")
