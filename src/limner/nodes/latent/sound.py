"""Nodes that turn sound into latents and back, and tell an audio model how long a sound is to be."""

from __future__ import annotations

from typing import Annotated

from limner.diffusion.conditioning import Conditioning as ConditioningValue
from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Float
from limner.nodes.media.audio import resampled, sound
from limner.nodes.memory import check_room
from limner.nodes.sockets import Audio, Conditioning, Latent, Vae

MODULE, CATEGORY = "comfy_extras.nodes_audio", "latent/audio"

Seconds = Annotated[float, Float(0, 1000, step=0.1)]


@node("VAEEncodeAudio", display_name="VAE Encode Audio", category=CATEGORY, module=MODULE)
def vae_encode_audio(*, audio: Audio, vae: Vae) -> Latent:
    """Encodes a sound into a latent, at the sample rate of the VAE; a single channel becomes two."""
    waveform, rate = sound(audio)
    if not vae.sample_rate:
        raise UnfitInput(f"{vae.name} is no VAE for sound; load that of an audio model")
    waveform = resampled(waveform, rate, vae.sample_rate)
    if waveform.shape[1] == 1:
        waveform = waveform.repeat(1, vae.channels, 1)
    if waveform.shape[1] != vae.channels or waveform.shape[2] < vae.latents.stride:
        raise UnfitInput(
            f"a sound with {waveform.shape[1]} channels and {waveform.shape[2]} samples cannot be encoded: 1 or "
            f"{vae.channels} channels and {vae.latents.stride} samples are the least"
        )
    whole = waveform.shape[2] // vae.latents.stride * vae.latents.stride
    return {"samples": vae.encode_sound(waveform[..., :whole])}


@node("VAEDecodeAudio", display_name="VAE Decode Audio", category=CATEGORY, module=MODULE)
def vae_decode_audio(*, samples: Latent, vae: Vae) -> Audio:
    """Decodes a latent into a sound."""
    latent = samples["samples"]
    check_room(len(latent), vae.channels, latent.shape[-1] * vae.latents.stride)
    return {"waveform": vae.decode_sound(latent), "sample_rate": vae.sample_rate}


@node("ConditioningStableAudio", category="conditioning", module=MODULE, outputs={
    "positive": "CONDITIONING", "negative": "CONDITIONING"
})  # fmt: skip
def conditioning_stable_audio(
    *, positive: Conditioning, negative: Conditioning, seconds_start: Seconds = 0.0, seconds_total: Seconds = 47.0
) -> tuple[ConditioningValue, ConditioningValue]:
    """Tells an audio model which part of how long a sound is to be made, in seconds."""
    told = {"seconds_start": seconds_start, "seconds_total": seconds_total}

    def with_seconds(conditioning: ConditioningValue) -> ConditioningValue:
        return [(context, {**extras, **told}) for context, extras in conditioning]

    return with_seconds(positive), with_seconds(negative)
