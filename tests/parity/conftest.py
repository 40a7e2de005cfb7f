"""What every comparison needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution


@pytest.fixture(autouse=True)
def encoders_take_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipelines of diffusers draw a latent from the spread that a VAE tells, ComfyUI takes its middle."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda spread, generator=None: spread.mode())


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are faster so, and sums come out to the last bit whoever else uses the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
