"""Stable Diffusion 1.x and every model in its layout, of any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from limner.diffusion.conds import Cond, CrossAttention
from limner.diffusion.denoiser import Epsilon, Prediction, Velocity
from limner.diffusion.latents import LatentFormat
from limner.diffusion.levels import scaled_linear
from limner.errors import UnfitInput
from limner.models.build import build, read_weights
from limner.models.checkpoint import Header
from limner.models.clip import Clip
from limner.models.device import Devices
from limner.models.family import Checkpoint, Family
from limner.models.keys import KeyMap, Place
from limner.models.model import BaseModel, Model, Options
from limner.models.text.embeddings import FindEmbedding
from limner.models.vae import Vae

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer."
TOKEN_IDS = "cond_stage_model.token_ids"  # noqa: S105
"""In models with a small vocabulary: the CLIP token id of embedding row 1, 2, ...; row 0 is every other token."""

WHOLE_NUMBERS = frozenset({"I8", "U8", "I16", "U16", "I32", "U32", "BOOL"})
"""Weights in these are quantised, which needs scales beside them."""


class Sd15(Family):
    """Stable Diffusion 1.x, its fine-tunes, and small models in the same layout. Rombach et al. 2022, arXiv:2112.10752.

    Widths and depths come from the shapes. Heads are 8 and norm groups 32, unless `limner.config` says otherwise.
    """

    name = "sd15"
    title = "Stable Diffusion 1.x"
    latents = LatentFormat(
        channels=4,
        stride=8,
        scale=0.18215,
        rgb=(
            (0.3512, 0.2297, 0.3227),
            (0.3250, 0.4974, 0.2350),
            (-0.2829, 0.1762, 0.2721),
            (-0.2120, -0.2616, -0.7177),
        ),
    )

    def matches(self, header: Header) -> bool:
        """A UNet under text, and a CLIP text encoder of transformers' layout beside it."""
        return (
            f"{UNET}input_blocks.0.0.weight" in header
            and f"{UNET}label_emb.0.0.weight" not in header
            and any(key.startswith(TEXT) for key in header.shapes)
        )

    def load(self, header: Header, devices: Devices, embedding: FindEmbedding) -> Checkpoint:
        """Strictly: every weight of the three networks must be there and fit."""
        _check(header)
        weights = read_weights(header)
        return Checkpoint(
            model=self._model(header, weights, devices),
            clip=_clip(header, weights, devices, embedding),
            vae=self._vae(header, weights, devices),
        )

    def _model(self, header: Header, weights: Mapping[str, Tensor], devices: Devices) -> Model:
        from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        config = unet_config(header)
        own = {key: weight for key, weight in weights.items() if key.startswith(UNET)}
        dtype = devices.network_dtype(sum(weight.numel() for weight in own.values()))
        network = build(
            lambda: UNet2DConditionModel(**config),
            convert_ldm_unet_checkpoint(own, config=config),
            header=header,
            part="UNet",
            device=devices.device,
            dtype=dtype,
        )
        return Model(
            BaseModel(
                name=header.path.name,
                architecture=self,
                diffusion_model=network,
                keys=_keys(own, config),
                model_sampling=prediction(header),
                latent_format=_with_own_colours(self.latents, header),
                device=devices.device,
                dtype=dtype,
                context_width=config["cross_attention_dim"],
                in_channels=config["in_channels"],
                native_size=header.number("native_size"),
            )
        )

    def forward(
        self,
        model: BaseModel,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        control: Mapping[str, list[Tensor | None]] | None,  # noqa: ARG002
        transformer_options: Options,  # noqa: ARG002
        **conds: Any,  # noqa: ARG002
    ) -> Tensor:
        answer: Tensor = model.diffusion_model(x, timestep, encoder_hidden_states=context, return_dict=False)[0]
        return answer

    def extra_conds(self, model: BaseModel, facts: Mapping[str, Any]) -> dict[str, Cond]:
        context = facts["cross_attn"]
        if context.ndim != 3 or context.shape[-1] != model.context_width:
            raise UnfitInput(
                f"the conditioning has the shape {tuple(context.shape)}, {model.name} takes (batch, tokens, "
                f"{model.context_width}); encode the prompt with the text encoder of the same checkpoint"
            )
        return {"c_crossattn": CrossAttention(context)}

    def _vae(self, header: Header, weights: Mapping[str, Tensor], devices: Devices) -> Vae:
        from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        config = vae_config(header)
        own = {key: weight for key, weight in weights.items() if key.startswith(VAE)}
        dtype = devices.vae_dtype()
        network = build(
            lambda: AutoencoderKL(**config),
            convert_ldm_vae_checkpoint(own, config=config),
            header=header,
            part="VAE",
            device=devices.device,
            dtype=dtype,
        )
        return Vae(network=network, latents=self.latents, device=devices.device, dtype=dtype)


def _keys(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> KeyMap:
    """Which key of the file became which parameter: the converter hands tensors on as they are."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    keys = {id(weight): key for key, weight in weights.items()}
    converted = convert_ldm_unet_checkpoint(dict(weights), config=dict(config))
    return KeyMap({keys[id(weight)].removeprefix("model."): (Place(name),) for name, weight in converted.items()})


def _clip(header: Header, weights: Mapping[str, Tensor], devices: Devices, embedding: FindEmbedding) -> Clip:
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    config = text_config(header)
    own = {
        key.removeprefix(TEXT).removeprefix("text_model."): weight
        for key, weight in weights.items()
        if key.startswith(TEXT) and not key.endswith("position_ids")
    }
    network = build(
        lambda: CLIPTextModel(CLIPTextConfig(**config)),
        own,
        header=header,
        part="text encoder",
        device=devices.device,
        dtype=devices.text_dtype(),
    )
    rows = None
    if TOKEN_IDS in header:
        rows = {int(token): row for row, token in enumerate(weights[TOKEN_IDS].tolist(), start=1)}
    return Clip(network=network, length=config["max_position_embeddings"], rows=rows, embedding=embedding)


def unet_config(header: Header) -> dict[str, Any]:
    """Arguments of UNet2DConditionModel, from the shapes of a UNet's weights."""
    widths, depths, resnets = [], [], []
    for block in range(1, header.count(f"{UNET}input_blocks.{{}}.")):
        prefix = f"{UNET}input_blocks.{block}."
        if f"{prefix}0.op.weight" in header:
            continue
        width = header.size(f"{prefix}0.in_layers.2.weight")
        if block == 1 or f"{UNET}input_blocks.{block - 1}.0.op.weight" in header:
            widths.append(width)
            depths.append(header.count(f"{prefix}1.transformer_blocks.{{}}."))
            resnets.append(0)
        resnets[-1] += 1
    middle = f"{UNET}middle_block.1."
    if not widths or len(set(resnets)) != 1 or not header.count(f"{middle}transformer_blocks.{{}}."):
        raise header.fault(f"its UNet has blocks {resnets} with attention {depths}, which is not of this family")
    return {
        "sample_size": None,
        "in_channels": header.size(f"{UNET}input_blocks.0.0.weight", 1),
        "out_channels": header.size(f"{UNET}out.2.weight"),
        "block_out_channels": tuple(widths),
        "layers_per_block": resnets[0],
        "down_block_types": tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths),
        "up_block_types": tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)),
        "transformer_layers_per_block": tuple(depth or 1 for depth in depths),
        "cross_attention_dim": header.size(f"{middle}transformer_blocks.0.attn2.to_k.weight", 1),
        "use_linear_projection": len(header.shape(f"{middle}proj_in.weight") or ()) == 2,
        "attention_head_dim": header.number("unet", "num_heads") or 8,  # diffusers' name for the number of heads
        "norm_num_groups": header.number("unet", "norm_num_groups") or 32,
    }


def vae_config(header: Header) -> dict[str, Any]:
    """Arguments of AutoencoderKL, from the shapes of a VAE's weights."""
    levels = header.count(f"{VAE}encoder.down.{{}}.")
    if not levels:
        raise header.fault("it holds no VAE (first_stage_model.*)")
    return {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": header.size(f"{VAE}decoder.conv_in.weight", 1),
        "block_out_channels": tuple(
            header.size(f"{VAE}encoder.down.{level}.block.0.conv1.weight") for level in range(levels)
        ),
        "layers_per_block": header.count(f"{VAE}encoder.down.0.block.{{}}."),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "mid_block_add_attention": f"{VAE}encoder.mid.attn_1.q.weight" in header,
        "norm_num_groups": header.number("vae", "norm_num_groups") or 32,
    }


def text_config(header: Header) -> dict[str, Any]:
    """Arguments of CLIPTextConfig, from the shapes of a text encoder's weights."""
    prefix = TEXT if f"{TEXT}embeddings.token_embedding.weight" in header else f"{TEXT}text_model."
    rows, width = (header.size(f"{prefix}embeddings.token_embedding.weight", axis) for axis in (0, 1))
    return {
        "vocab_size": rows,
        "hidden_size": width,
        "intermediate_size": header.size(f"{prefix}encoder.layers.0.mlp.fc1.weight"),
        "num_hidden_layers": header.count(f"{prefix}encoder.layers.{{}}."),
        "num_attention_heads": header.number("text", "num_heads") or max(1, width // 64),
        "max_position_embeddings": header.size(f"{prefix}embeddings.position_embedding.weight"),
        "eos_token_id": rows - 1,  # the end token has the last row, in the whole vocabulary and in small ones
        "bos_token_id": rows - 2,
        "pad_token_id": rows - 1,
    }


def prediction(header: Header) -> Prediction:
    """What the network predicts: v where a marker or the metadata says so, else the noise."""
    told = header.metadata.get("modelspec.prediction_type", "")
    kind = Velocity if "v_pred" in header or told in {"v", "v_prediction"} else Epsilon
    return kind(scaled_linear(0.00085, 0.012, steps=1000))


def _with_own_colours(latents: LatentFormat, header: Header) -> LatentFormat:
    """The format with the file's own guess at colours, if any: `latent_rgb`, a row per channel, then the bias."""
    told = header.told().get("latent_rgb")
    if told is None:
        return latents
    try:
        *rows, bias = [(float(red), float(green), float(blue)) for red, green, blue in told]
    except (TypeError, ValueError) as error:
        raise header.fault("its metadata limner.config says latent_rgb that is not rows of three numbers") from error
    if len(rows) != latents.channels:
        raise header.fault(f"its metadata limner.config says latent_rgb with {len(rows)} channels and a bias")
    return replace(latents, rgb=tuple(rows), rgb_bias=bias)


def _check(header: Header) -> None:
    """Raises ModelFileError for what looks like this family but cannot be run."""
    channels = header.size(f"{UNET}input_blocks.0.0.weight", 1)
    if channels != 4:
        raise header.fault(f"its UNet takes {channels} channels (an inpainting or editing model); 4 can be run")
    for key, dtype in header.dtypes.items():
        if key.startswith(UNET) and dtype in WHOLE_NUMBERS:
            raise header.fault(f"its weights are quantised ({key} is {dtype}); use an fp16 or bf16 file")
    if "ztsnr" in header:
        raise header.fault("it was trained for zero signal at the last step (ztsnr), which this version does not run")
