"""Trains the UNet and the text encoder together on the pictures' latents, and samples from them."""

from __future__ import annotations

import random
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextModel

from .common import ALPHAS, PIXELS, SCALE, decode, encode, load, make_text, make_unet, make_vae, parameters, save
from .data import Data, caption, encode_texts
from .optim import Both, share


@torch.no_grad()
def sample(
    unet: UNet2DConditionModel,
    text: CLIPTextModel,
    rows: dict[int, int],
    prompts: list[str],
    negative: str = "",
    steps: int = 20,
    cfg: float = 5.0,
    seed: int = 0,
    karras: bool = False,
) -> Tensor:
    """Latents for prompts by Euler's method in sigma space; without the latent scale."""
    ladder = ((1 - ALPHAS) / ALPHAS).sqrt()
    if karras:
        ramp = torch.linspace(0, 1, steps)
        sigmas = (ladder[-1] ** (1 / 7) + ramp * (ladder[0] ** (1 / 7) - ladder[-1] ** (1 / 7))) ** 7
    else:
        places = torch.linspace(999, 0, steps)
        low = places.floor().long()
        high = (low + 1).clamp(max=999)
        sigmas = (ladder[low].log().lerp(ladder[high].log(), places - low)).exp()
    sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])
    count, side = len(prompts), PIXELS // 8
    context = text(encode_texts([*prompts, *[negative] * count], rows)).last_hidden_state
    noise = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, side, side, generator=noise) * (1 + sigmas[0] ** 2).sqrt()
    for now, after in pairwise(sigmas):
        time_ = int((ladder.log() - now.log()).abs().argmin())
        both = torch.cat([x, x]) / (now**2 + 1).sqrt()
        v = unet(both, torch.full((2 * count,), time_), context).sample
        v = v[count:] + cfg * (v[:count] - v[count:])
        clean = x / (now**2 + 1) - v * now / (now**2 + 1).sqrt()
        x = x + (x - clean) / now * (after - now)
    return x / SCALE


def load_vae(work: Path, name: str) -> AutoencoderKL:
    """A saved VAE."""
    vae = make_vae()
    vae.load_state_dict(load(work / f"{name}.pt")["vae"])
    return vae.eval()


def load_unet(work: Path, data: Data) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """The averaged weights saved last."""
    state = load(work / "unet.pt")
    unet, text = make_unet(), make_text(len(data.rows) + 1)
    unet.load_state_dict(state["unet"])
    text.load_state_dict(state["text"])
    return unet.eval(), text.eval()


def train_unet(
    work: Path,
    data: Data,
    vae_name: str,
    minutes: float,
    lr: float = 2e-3,
    batch: int = 48,
    seed: int = 0,
    matrices: bool = True,
) -> None:
    """Trains for so long, saving averaged weights to unet.pt; goes on from its own saved state."""
    rng = random.Random(seed)
    latents = encode(load_vae(work, vae_name), data.pictures) * SCALE
    unet, text = make_unet(), make_text(len(data.rows) + 1)
    unet.set_attn_processor(AttnProcessor())  # the fused one is slow backwards in bf16 with heads this small
    optimiser = Both([unet, text], lr, matrices)
    params = optimiser.params
    mean = [p.detach().clone() for p in params]
    step, spent = 0, 0.0
    state_path = work / "unet.state"
    if state_path.exists():
        state = load(state_path)
        unet.load_state_dict(state["unet"])
        text.load_state_dict(state["text"])
        optimiser.load_state_dict(state["optimiser"])
        mean, step, spent = state["mean"], state["step"], state["spent"]
        rng.seed(seed + step)
    print(f"unet {parameters(unet)}, text {parameters(text)} parameters", flush=True)
    weights = torch.tensor([float(c.weight) for c in data.concepts])
    began, saved, log = time.time() - spent, time.time(), []

    def keep() -> None:
        state: dict[str, Any] = {"unet": unet.state_dict(), "text": text.state_dict()}
        save(
            state_path,
            state | {"optimiser": optimiser.state_dict(), "mean": mean, "step": step, "spent": time.time() - began},
        )
        own = [p.detach().clone() for p in params]
        with torch.no_grad():
            torch._foreach_copy_(params, mean)
            save(work / "unet.pt", {"unet": unet.state_dict(), "text": text.state_dict(), "step": step})
            torch._foreach_copy_(params, own)

    while (done := (time.time() - began) / (minutes * 60)) < 1:
        which = torch.multinomial(weights, batch, replacement=True)
        ids = encode_texts([caption(data.concepts[i], rng, data.concepts) for i in which], data.rows, rng)
        clean, noise = latents[which], torch.randn(batch, *latents.shape[1:])
        times = ((torch.randperm(batch) + rng.random()) / batch * 1000).long().clamp(max=999)
        signal, spread = (a.sqrt()[:, None, None, None] for a in (ALPHAS[times], 1 - ALPHAS[times]))
        noisy = signal * clean + spread * noise
        with torch.autocast("cpu", torch.bfloat16):
            v = unet(noisy, times, text(ids).last_hidden_state).sample.float()
        loss = functional.mse_loss(v, signal * noise - spread * clean)
        optimiser.step(loss, share(step, done))
        step += 1
        slow = min(0.999, (1 + step) / (20 + step))
        with torch.no_grad():
            torch._foreach_lerp_(mean, [p.detach() for p in params], 1 - slow)
        log.append(loss.item())
        if step % 100 == 0:
            print(f"unet {step} {time.time() - began:.0f}s loss {sum(log[-100:]) / 100:.4f}", flush=True)
        if time.time() - saved > 180:
            keep()
            saved = time.time()
    keep()
    print(f"unet: {step} steps, loss {sum(log[-300:]) / max(1, len(log[-300:])):.4f}")


@torch.no_grad()
def draw(work: Path, data: Data, rounds: int, target: str, seed: int = 1) -> None:
    """Has the UNet draw every concept some times, at guidance 1 to 9, and writes the latents for the decoder."""
    unet, text = load_unet(work, data)
    rng = random.Random(seed)
    which, latents = [], []
    for turn in range(rounds):
        cfg = (8.0, 4.0, 6.0, 2.0, 7.0, 3.0)[turn % 6]
        for start in range(0, len(data.concepts), 73):
            part = range(start, min(start + 73, len(data.concepts)))
            prompts = [rng.choice(("", "a ", "a photo of a ")) + data.concepts[i].names[0] for i in part]
            latents.append(sample(unet, text, data.rows, prompts, cfg=cfg, seed=rng.randrange(1 << 30)))
            which += part
    save(work / target, {"which": torch.tensor(which), "latents": torch.cat(latents)})


def pictures(work: Path, data: Data, vae_name: str, prompts: list[str], **settings: Any) -> Tensor:
    """Pictures for prompts."""
    unet, text = load_unet(work, data)
    return decode(load_vae(work, vae_name), sample(unet, text, data.rows, prompts, **settings))
