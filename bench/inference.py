"""What Limner's engine adds to the networks themselves, on a checkpoint of SD1.5's size with random weights.

    python bench/inference.py

Prints one JSON object. Each figure comes from a process of its own and stands beside its baseline from the same run: a
step beside diffusers' bare UNet in the same precision, a load beside safetensors' `load_file` and `assign`. Memory is
what a process holds at its peak beyond what it held after its imports.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME = "sd15.safetensors"
REPEATS = {8: 15, 64: 5}
"""Pairs of steps, by the latent's edge."""


def make(path: Path) -> None:
    """The checkpoint: fp16, 2 GB, normal weights that keep activations in range."""
    import torch
    from tests.support.tiny import layout

    draw = torch.Generator().manual_seed(0)
    weights = {
        key: (torch.randn(weight.shape, generator=draw, dtype=torch.float32) * 0.02).half()
        for key, weight in layout.keys(layout.SD15, layout.networks(layout.SD15, empty=True)).items()
    }
    layout.save(path, weights)


def part_step(folder: Path, size: int) -> dict[str, float]:
    """A step at cfg 7 (a batch of two) through all of Limner's sampling, and the bare call: in turns, the medians."""
    import torch

    from limner.diffusion.samplers import SAMPLERS
    from limner.models import residency
    from limner.models.device import settle_threads
    from limner.models.sampling.guiders import CFGGuider

    settle_threads()
    model, clip, _ = _library(folder).checkpoint(NAME)
    positive, negative = (clip.read(text)[0] for text in ("a cat", ""))
    guider = CFGGuider(model)
    guider.set_conds([(positive, {})], [(negative, {})])
    guider.set_cfg(7.0)
    x, noise = torch.zeros(1, 4, size, size), torch.randn(1, 4, size, size)
    sigmas = torch.tensor([10.0, 9.0])
    with torch.inference_mode(), residency.use(model):
        network, dtype = model.model.diffusion_model, next(model.model.diffusion_model.parameters()).dtype
        double, text = noise.repeat(2, 1, 1, 1).to(dtype), torch.cat([positive, negative]).to(dtype)
        step = torch.tensor([500, 500])

        def bare() -> None:
            network(double, step, encoder_hidden_states=text, return_dict=False)

        def ours() -> None:
            guider.sample(noise, x, SAMPLERS["euler"], sigmas, seed=1)

        ours()
        bare()
        pairs = [(_seconds(bare), _seconds(ours)) for _ in range(REPEATS[size])]
    alone, with_limner = (sorted(column)[len(pairs) // 2] for column in zip(*pairs, strict=True))
    ratio = sorted(b / a for a, b in pairs)[len(pairs) // 2]
    return {"bare_s": alone, "limner_s": with_limner, "ratio": ratio}


def part_load_baseline(folder: Path) -> dict[str, float]:
    """The three networks on the meta device, the file's tensors assigned to them."""
    from accelerate import init_empty_weights
    from safetensors.torch import load_file
    from tests.support.tiny import layout

    size = layout.SD15
    makers = (
        (layout.unet, lambda sd: (f"model.diffusion_model.{key}" for key, _ in layout.unet_keys(size, sd))),
        (layout.vae, lambda sd: (f"first_stage_model.{key}" for key, _ in layout.vae_keys(size, sd))),
        (layout.text, lambda sd: (f"cond_stage_model.transformer.text_model.{key}" for key in sd)),
    )
    before = _memory()
    began = time.perf_counter()
    tensors = load_file(folder / "checkpoints" / NAME)
    made = []
    for make_network, names in makers:
        with init_empty_weights(include_buffers=False):
            network = make_network(size)
        own = network.state_dict()
        found = {key: tensors[name].reshape(own[key].shape) for key, name in zip(own, names(own), strict=True)}
        network.load_state_dict(found, strict=True, assign=True)
        made.append(network)
    return {"seconds": time.perf_counter() - began, "peak_mib": _peak() - before}


def part_load(folder: Path) -> dict[str, float]:
    from limner.models import build

    library = _library(folder)
    build.preload()
    before = _memory()
    began = time.perf_counter()
    library.checkpoint(NAME)
    return {"seconds": time.perf_counter() - began, "peak_mib": _peak() - before}


def part_first(folder: Path) -> dict[str, float]:
    """Two pictures of 64 pixels in 4 steps: from the start of a fresh process, and once more."""
    import torch

    from limner.diffusion.samplers import SAMPLERS
    from limner.diffusion.schedules import sigmas
    from limner.models.device import settle_threads
    from limner.models.sampling.guiders import CFGGuider

    settle_threads()
    library = _library(folder)

    def picture(prompt: str) -> None:
        model, clip, vae = library.checkpoint(NAME)
        guider = CFGGuider(model)
        guider.set_conds(*([(clip.read(text)[0], {})] for text in (prompt, "")))
        guider.set_cfg(7.0)
        levels = sigmas("normal", model.model_sampling.levels, 4)
        with torch.inference_mode():
            vae.decode(
                guider.sample(torch.randn(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), SAMPLERS["euler"], levels, seed=1)
            )

    picture("a cat")
    first = time.process_time()
    picture("a dog")
    return {"first_cpu_s": first, "warm_cpu_s": time.process_time() - first, "peak_mib": _peak()}


def part_text(folder: Path) -> dict[str, float]:
    """A prompt's encoding, in milliseconds, once the encoder has run; and the same prompt again, as in another job."""
    from limner.models.device import settle_threads

    settle_threads()
    _, clip, _ = _library(folder).checkpoint(NAME)
    clip.encode("warm")
    first = _seconds(lambda: clip.encode("a cat in a hat"))
    return {"first_ms": first * 1000, "again_ms": _seconds(lambda: clip.encode("a cat in a hat")) * 1000}


def measure(folder: Path) -> dict[str, Any]:
    """All of it; the checkpoint is made in `folder`."""
    make(folder / "checkpoints" / NAME)
    size_mib = (folder / "checkpoints" / NAME).stat().st_size / 2**20
    parts = {name: _in_a_process(folder, name) for name in ("load_baseline", "load", "first", "text")}
    steps = {edge * 8: _in_a_process(folder, "step", edge) for edge in (8, 64)}
    load, base = parts["load"], parts["load_baseline"]
    return {
        "weights_mib": size_mib,
        "load": {**load, "baseline_s": base["seconds"], "ratio": load["seconds"] / base["seconds"]},
        "load_memory_ratio": load["peak_mib"] / size_mib,
        "baseline_memory_mib": base["peak_mib"],
        "step": steps,
        "picture_64px_4_steps": parts["first"],
        "text": parts["text"],
    }


def _in_a_process(folder: Path, part: str, size: int = 8) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.inference", "--folder", str(folder), "--part", part, "--size", str(size)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode:
        raise RuntimeError(said.stderr[-2000:])
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return found


def _library(folder: Path) -> Any:
    from limner.models.files import ModelFolders
    from limner.models.library import ModelLibrary

    return ModelLibrary(ModelFolders([folder]))


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _memory() -> float:
    """MiB resident now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _peak() -> float:
    """MiB resident at the most so far. Not getrusage's: that begins with what the parent had."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


PARTS = {
    "step": part_step,
    "load": part_load,
    "load_baseline": part_load_baseline,
    "first": part_first,
    "text": part_text,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--size", type=int, default=8, help="edge of the latent")
    arguments = parser.parse_args()
    if arguments.part:
        more = (arguments.size,) if arguments.part == "step" else ()
        print(json.dumps(PARTS[arguments.part](arguments.folder, *more)))
        return
    with tempfile.TemporaryDirectory(prefix="limner-bench-") as name:
        print(json.dumps(measure(Path(name)), indent=2))


if __name__ == "__main__":
    main()
