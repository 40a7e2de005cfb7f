"""Command line: `python -m tools.train_demo --work DIR STAGE...`, where STAGE is a stage's name or `all`."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path

import torch

from . import data, export, sheet, unet, vae

STAGES = ("data", "wide", "vae", "unet", "decoder", "draw", "tune", "sheet", "export")
MINUTES = {"wide": 30.0, "vae": 12.0, "unet": 75.0, "decoder": 50.0, "tune": 12.0}


def main() -> None:
    """Runs the stages named, in order. A stage whose result is there is left out by `all`."""
    parser = argparse.ArgumentParser(prog="python -m tools.train_demo", description=__doc__)
    parser.add_argument(
        "stages", nargs="+", choices=[*STAGES, "all"], metavar="STAGE", help=", ".join([*STAGES, "all"])
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of everything downloaded and trained")
    parser.add_argument("--out", type=Path, help="checkpoint to write (limner-demo.safetensors in --work)")
    parser.add_argument("--sheet", type=Path, help="sample sheet to write (sheet.png in --work)")
    parser.add_argument("--minutes", type=float, help="time limit of each training stage, instead of its usual one")
    parser.add_argument("--prompts", default="", help="prompts of the sheet, with | between")
    parser.add_argument("--negative", default="", help="negative prompt of the sheet")
    parser.add_argument("--cfg", type=float, default=5.0, help="guidance of the sheet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    everything = "all" in args.stages
    for stage in STAGES if everything else args.stages:
        if everything and (args.work / RESULTS.get(stage, "-")).exists():
            continue
        random.seed(args.seed)
        torch.manual_seed(args.seed)
        RUN[stage](args)


def _minutes(args: argparse.Namespace, stage: str) -> float:
    return args.minutes or MINUTES[stage]


def _wide(args: argparse.Namespace) -> None:
    vae.train_vae(args.work, vae.wide(args.work), "wide", _minutes(args, "wide"))


def _vae(args: argparse.Namespace) -> None:
    pictures = data.load_data(args.work).pictures
    vae.train_vae(args.work, pictures, "vae0", _minutes(args, "vae"), start="wide.pt", lr=2e-3)
    vae.fold_saved(args.work, "vae0", pictures, "vae")


def _unet(args: argparse.Namespace) -> None:
    unet.train_unet(args.work, data.load_data(args.work), "vae", _minutes(args, "unet"), seed=args.seed)


def _decoder(args: argparse.Namespace) -> None:
    vae.train_decoder(args.work, data.load_data(args.work), "vae", "decoder", _minutes(args, "decoder"), lr=1.5e-3)


def _draw(args: argparse.Namespace) -> None:
    unet.draw(args.work, data.load_data(args.work), 3, "drawn.pt")


def _tune(args: argparse.Namespace) -> None:
    known = data.load_data(args.work)
    vae.train_decoder(args.work, known, "decoder", "tuned", _minutes(args, "tune"), drawn="drawn.pt", lr=7e-4)


def _sheet(args: argparse.Namespace) -> None:
    prompts = args.prompts.split("|") if args.prompts else list(sheet.PROMPTS)
    settings = {"negative": args.negative, "cfg": args.cfg, "seed": args.seed}
    pictures = unet.pictures(args.work, data.load_data(args.work), _last_vae(args.work), prompts, **settings)
    sheet.write(pictures, prompts, args.sheet or args.work / "sheet.png")


def _export(args: argparse.Namespace) -> None:
    target = args.out or args.work / "limner-demo.safetensors"
    size = export.export(args.work, data.load_data(args.work), _last_vae(args.work), target)
    print(f"{target}: {size} bytes")


def _last_vae(work: Path) -> str:
    return next(name for name in ("tuned", "decoder", "vae") if (work / f"{name}.pt").exists())


RESULTS = {
    "data": "data.json",
    "wide": "wide.pt",
    "vae": "vae.pt",
    "decoder": "decoder.pt",
    "draw": "drawn.pt",
    "tune": "tuned.pt",
}
RUN: dict[str, Callable[[argparse.Namespace], None]] = {
    "data": lambda args: data.prepare(args.work),
    "wide": _wide,
    "vae": _vae,
    "unet": _unet,
    "decoder": _decoder,
    "draw": _draw,
    "tune": _tune,
    "sheet": _sheet,
    "export": _export,
}

if __name__ == "__main__":
    main()
