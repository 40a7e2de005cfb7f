"""Trains the VAE: first on all plain emoji, then on the concepts; then folds the latents' mean and size into it."""

from __future__ import annotations

import random
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from .common import SCALE, decode, encode, grid, load, make_vae, psnr, save, to_images
from .data import Data, as_pictures
from .optim import Both, share

CHROMA = torch.tensor([[0.5, -0.419, -0.081], [-0.169, -0.331, 0.5]])  # RGB -> Cr, Cb


def picture_loss(y: Tensor, x: Tensor) -> Tensor:
    """Difference of pictures: values, edges at three scales, and colours of small areas."""
    small = functional.avg_pool2d(y - x, 4)
    colour = torch.einsum("kc,bchw->bkhw", CHROMA, small).abs().mean()
    loss = functional.l1_loss(y, x) + 3 * colour + small.abs().mean() + 4 * functional.mse_loss(y, x)
    for _ in range(3):
        for dim in (2, 3):
            loss = loss + functional.l1_loss(y.diff(dim=dim), x.diff(dim=dim))
        y, x = functional.avg_pool2d(y, 2), functional.avg_pool2d(x, 2)
    return loss


def train_vae(
    work: Path, pictures: Tensor, name: str, minutes: float, start: str = "", lr: float = 1.5e-3, batch: int = 8
) -> None:
    """Trains encoder and decoder together for so long and writes `name`.pt; goes on from its own saved state."""
    vae = make_vae().to(memory_format=torch.channels_last)
    if start:
        vae.load_state_dict(load(work / start)["vae"])
    optimiser = Both([vae], lr)
    state_path = work / f"{name}.state"
    step, spent = 0, 0.0
    if state_path.exists():
        state = load(state_path)
        vae.load_state_dict(state["vae"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["spent"]
    began, saved, noise = time.time() - spent, time.time(), []
    while time.time() - began < minutes * 60:
        x = pictures[torch.randint(len(pictures), (batch,))].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            z = vae.encode(x).latent_dist.mean
            size = 0.08 * z.detach().float().std()
            y = vae.decode(z + torch.randn_like(z) * size.to(z.dtype)).sample
        y, z = y.float(), z.float()
        optimiser.step(picture_loss(y, x) + 1e-5 * z.pow(2).mean(), share(step, (time.time() - began) / (minutes * 60)))
        step += 1
        noise.append(functional.mse_loss(y, x).item())
        if step % 100 == 0:
            mean = torch.tensor(4 / (sum(noise[-100:]) / 100))
            print(f"{name} {step} {time.time() - began:.0f}s psnr {10 * mean.log10():.2f}", flush=True)
        if time.time() - saved > 120:
            spent = time.time() - began
            state = {"vae": vae.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "spent": spent}
            save(state_path, state)
            saved = time.time()
    vae.eval()
    y = decode(vae, encode(vae, pictures))
    print(f"{name}: {step} steps, psnr {psnr(y, pictures):.2f}")
    save(work / f"{name}.pt", {"vae": vae.state_dict()})
    state_path.unlink(missing_ok=True)


@torch.no_grad()
def fold(vae: AutoencoderKL, pictures: Tensor) -> None:
    """Makes latents zero-mean with the size SD 1.x gives them, through the 1x1 convolutions around them."""
    vae.eval()
    z = encode(vae, pictures)
    mean, size = z.mean((0, 2, 3)), z.std((0, 2, 3)) * SCALE
    vae.quant_conv.weight[:4] /= size[:, None, None, None]
    vae.quant_conv.bias[:4] = (vae.quant_conv.bias[:4] - mean) / size
    vae.post_quant_conv.bias += vae.post_quant_conv.weight[:, :, 0, 0] @ mean
    vae.post_quant_conv.weight *= size[None, :, None, None]


def fold_saved(work: Path, name: str, pictures: Tensor, target: str) -> None:
    """Folds the latents' mean and size into a saved VAE."""
    vae = make_vae()
    vae.load_state_dict(load(work / f"{name}.pt")["vae"])
    fold(vae, pictures)
    z = encode(vae, pictures)
    y = decode(vae, z)
    print(f"latents {z.mean().item() * SCALE:.3f} +- {z.std().item() * SCALE:.3f}, psnr {psnr(y, pictures):.2f}")
    save(work / f"{target}.pt", {"vae": vae.state_dict()})


def train_decoder(
    work: Path, data: Data, source: str, name: str, minutes: float, drawn: str = "", lr: float = 1e-3, batch: int = 8
) -> None:
    """Trains the decoder alone on latents with noise, and on latents the UNet drew if `drawn` names a file of them."""
    vae = make_vae().to(memory_format=torch.channels_last)
    vae.load_state_dict(load(work / f"{source}.pt")["vae"])
    vae.eval()
    latents = encode(vae, data.pictures)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    optimiser = Both([vae], lr)
    state_path = work / f"{name}.state"
    step, spent = 0, 0.0
    if state_path.exists():
        state = load(state_path)
        vae.load_state_dict(state["vae"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["spent"]
    weights = torch.tensor([float(c.weight) for c in data.concepts])
    extra = load(work / drawn) if drawn else {}
    began, saved, log = time.time() - spent, time.time(), []
    while time.time() - began < minutes * 60:
        which = torch.multinomial(weights, batch, replacement=True)
        z = latents[which]
        if extra and step % 2:
            pick = torch.randint(len(extra["which"]), (batch,))
            which, z = extra["which"][pick], extra["latents"][pick]
        z = z + torch.randn_like(z) * random.random() * 0.2 / SCALE
        x = data.pictures[which].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            y = vae.decode(z).sample
        y = y.float()
        optimiser.step(picture_loss(y, x), share(step, (time.time() - began) / (minutes * 60)))
        step += 1
        log.append(functional.mse_loss(y, x).item())
        if step % 100 == 0:
            mean = torch.tensor(4 / (sum(log[-100:]) / 100))
            print(f"{name} {step} {time.time() - began:.0f}s psnr {10 * mean.log10():.2f}", flush=True)
        if time.time() - saved > 120:
            spent = time.time() - began
            state = {"vae": vae.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "spent": spent}
            save(state_path, state)
            save(work / f"{name}.pt", {"vae": vae.state_dict()})
            saved = time.time()
    y = decode(vae, latents)
    print(f"{name}: {step} steps, psnr {psnr(y, data.pictures):.2f}")
    save(work / f"{name}.pt", {"vae": vae.state_dict()})
    state_path.unlink(missing_ok=True)


def compare(work: Path, data: Data, name: str, target: Path, columns: int = 24) -> None:
    """A sheet of every third picture above what the VAE makes of it."""
    vae = make_vae()
    vae.load_state_dict(load(work / f"{name}.pt")["vae"])
    x = data.pictures[::3]
    y = decode(vae.eval(), encode(vae, x))
    images = []
    for start in range(0, len(x) - columns + 1, columns):
        images += to_images(x[start : start + columns]) + to_images(y[start : start + columns])
    grid(images, columns, 1).save(target)


def wide(work: Path) -> Tensor:
    """The pictures of all plain emoji."""
    return as_pictures(work / "wide.npy")
