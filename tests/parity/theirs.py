"""diffusers' pipelines, built of the same weights and brought to the same conventions.

Each convention in which ComfyUI (and so Limner) is known to differ is one function or argument here, named after it.
"""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn
from transformers.models.clip.modeling_clip import CLIPTextModelWithProjection
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from limner.diffusion.levels import scaled_linear
from limner.diffusion.schedules import sigmas
from limner.models.text.tokenizer import MERGES, VOCABULARY
from tests.support.tiny import layout, text_encoders
from tests.support.tiny.layout import Size


class Told(EulerDiscreteScheduler):  # type: ignore[misc]
    """Euler's method down told sigmas, whatever number of steps the pipeline asks for."""

    def __init__(self, sigmas: Sequence[float] = (), prediction_type: str = "epsilon") -> None:
        """timestep_spacing "leading" is how diffusers says that a walk begins with noise * sqrt(1 + sigma^2)."""
        super().__init__(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type=prediction_type,
            timestep_spacing="leading",
            steps_offset=1,
        )
        self.told = list(sigmas)

    def set_timesteps(self, num_inference_steps: Any = None, device: Any = None, **_: Any) -> None:
        with warnings.catch_warnings():  # it hands numpy a tensor in a way that numpy calls old
            warnings.simplefilter("ignore", DeprecationWarning)
            super().set_timesteps(sigmas=self.told, device=device)

    def _sigma_to_t(self, sigma: float, log_sigmas: Any) -> float:
        """ComfyUI tells the network the nearest row of the table, diffusers a place between two rows."""
        nearest: float = abs(torch.tensor(log_sigmas).double() - torch.tensor(sigma).double().log()).argmin().item()
        return nearest


class ToldFlow(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """Euler's method on a straight path, down told sigmas."""

    def __init__(self, sigmas: Sequence[float] = ()) -> None:
        super().__init__(shift=1.0)
        self.told = list(sigmas)

    def set_timesteps(
        self, num_inference_steps: Any = None, device: Any = None, sigmas: Any = None, mu: Any = None, **_: Any
    ) -> None:
        """sigmas, mu: what pipelines make of the picture's size."""
        super().set_timesteps(sigmas=self.told[:-1], device=device)


def tokenizer(pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """transformers' own, over the merges that Limner ships. pad: "!" (0) for OpenCLIP's encoders."""
    with gzip.open(VOCABULARY, "rt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in file.read().split("\n")[1 : MERGES + 1]]
    letters = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters += [chr(256 + place) for place in range(256 - len(letters))]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    made = CLIPTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=merges, pad_token=pad)
    made.model_max_length = 77
    return made


def halved(network: nn.Module) -> Any:
    """The weights as they come back from a file in half precision."""
    return network.half().float().eval().requires_grad_(False)


def clip(name: str) -> CLIPTextModelWithProjection:
    return halved(text_encoders.clip(name))


def plain_clip(name: str, *, skip: int = 0) -> Any:
    """Without the projection. skip: so many of the last layers are left out, as diffusers' files of SD2 do.

    Their argument clip_skip counts for the positive prompt alone, ComfyUI's CLIP skip for both.
    """
    made: Any = text_encoders.plain(clip(name))
    made.encoder.layers = made.encoder.layers[: len(made.encoder.layers) - skip]
    return made


def unet(size: Size) -> UNet2DConditionModel:
    return halved(layout.networks(size).unet)


def vae(size: Size, scale: float, shift: float = 0.0) -> Any:
    """The VAE, which a pipeline scales by its config; `force_upcast` would only change half precision."""
    made = halved(layout.networks(size).vae)
    made.register_to_config(scaling_factor=scale, shift_factor=shift, force_upcast=False)
    return made


def xl_unet(size: Size) -> UNet2DConditionModel:
    """The UNet with diffusers' own way to tell it sizes, in place of a ready-made vector."""
    own = layout.networks(size).unet
    config = {key: each for key, each in own.config.items() if not key.startswith("_")}
    made = UNet2DConditionModel(**{
        **config, "class_embed_type": None, "addition_embed_type": "text_time", "addition_time_embed_dim": 256
    })  # fmt: skip
    made.load_state_dict({key.replace("class_embedding.", "add_embedding."): w for key, w in own.state_dict().items()})
    return halved(made)


def quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def as_pictures(samples: Tensor) -> Tensor:
    """(B, 3, H, W) as pipelines give it, as (B, H, W, 3)."""
    return samples.movedim(1, -1)


def levels(steps: int = 4, *, denoise: float = 1.0, scheduler: str = "normal") -> list[float]:
    """The sigmas of a walk of the Stable Diffusion kind, which recordings hold Limner to."""
    table = scaled_linear(0.00085, 0.012, steps=1000)
    told: list[float] = sigmas(scheduler, table, steps, denoise=denoise).tolist()
    return told


SD_SCALE, SDXL_SCALE = 0.18215, 0.13025


def sd_parts(
    size: Size,
    walk: Sequence[float],
    *,
    text: str = "clip_l",
    skip: int = 0,
    pad: str = "<|endoftext|>",
    kind: str = "epsilon",
) -> dict[str, Any]:
    """What pipelines of Stable Diffusion 1 and 2 are made of."""
    return {
        "vae": vae(size, SD_SCALE),
        "text_encoder": plain_clip(text, skip=skip),
        "tokenizer": tokenizer(pad),
        "unet": unet(size),
        "scheduler": Told(walk, kind),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def xl_parts(size: Size, walk: Sequence[float]) -> dict[str, Any]:
    """What pipelines of SDXL are made of. ComfyUI encodes an empty prompt as it does any other."""
    return {
        "vae": vae(size, SDXL_SCALE),
        "text_encoder": plain_clip("clip_l"),
        "text_encoder_2": clip("clip_g"),
        "tokenizer": tokenizer(),
        "tokenizer_2": tokenizer("!"),
        "unet": xl_unet(size),
        "scheduler": Told(walk),
        "force_zeros_for_empty_prompt": False,
        "add_watermarker": False,
    }


PROMPTS = {"prompt": "a photo of a cat", "negative_prompt": "blurry, dark"}
SIZE = {"width": 72, "height": 56}


def made(pipeline: Any, **asked: Any) -> tuple[Tensor, Tensor]:
    """The latent in the VAE's units, and the pictures (B, H, W, 3), of one call each."""
    quiet(pipeline)
    given = {"num_inference_steps": len(pipeline.scheduler.told) - 1, "guidance_scale": 3.0, **PROMPTS, **asked}
    config = pipeline.vae.config
    generators = [torch.Generator().manual_seed(7) for _ in range(2)]
    latent = pipeline(**given, generator=generators[0], output_type="latent").images
    pictures = pipeline(**given, generator=generators[1], output_type="pt").images
    return latent / config.scaling_factor + (config.shift_factor or 0.0), as_pictures(pictures)
