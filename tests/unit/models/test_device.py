import os
from pathlib import Path

import pytest
import torch

from limner.models import device
from limner.models.device import LARGE_NETWORK, Devices, choose, settle_threads, usable_cores

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def test_a_cpu_never_runs_float16() -> None:
    for half in (None, torch.bfloat16):
        devices = Devices(device=CPU, half=half)
        for parameters in (1, LARGE_NETWORK, 10 * LARGE_NETWORK):
            assert devices.network_dtype(parameters) in (torch.float32, torch.bfloat16)
        assert devices.vae_dtype() == devices.text_dtype() == torch.float32


def test_on_a_cpu_only_large_networks_run_in_half_precision() -> None:
    devices = Devices(device=CPU, half=torch.bfloat16)
    assert devices.network_dtype(LARGE_NETWORK - 1) == torch.float32
    assert devices.network_dtype(LARGE_NETWORK) == torch.bfloat16


def test_a_gpu_runs_networks_of_any_size_in_half_precision() -> None:
    assert Devices(device=CUDA, half=torch.float16).network_dtype(1) == torch.float16


def test_the_device_is_there() -> None:
    chosen = choose()
    assert torch.zeros(1, device=chosen.device).device == chosen.device


@pytest.mark.parametrize(
    ("told", "variable", "threads"), [(3, "2", 3), (None, "2", 2), (None, "nonsense", usable_cores())]
)
def test_threads_are_as_told(told: int | None, variable: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    set_to: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    assert settle_threads(told) == threads
    assert set_to == [threads]


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("150000 100000", 1), ("400000 100000", 4), ("50000 100000", 1)]
)
def test_a_containers_quota_counts(quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(device, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert usable_cores() == cores


def test_threads_that_wait_give_up_their_core() -> None:
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
