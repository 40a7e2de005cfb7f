"""Options on model files and on the memory that models may take, for all commands that have an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ExtraModelPaths = Annotated[
    list[Path] | None,
    typer.Option(
        "--extra-model-paths",
        metavar="FILE",
        help="An extra_model_paths.yaml, as ComfyUI reads it; may be given several times.  "
        "[default: those in the model folders or beside them]",
    ),
]
AllowPickle = Annotated[
    bool | None,
    typer.Option("--allow-pickle", help="Read pickled model files (.ckpt, .pt, .pth, .bin) too, tensors only."),
]
VramBudget = Annotated[
    float | None,
    typer.Option("--vram-budget", metavar="GB", help="GPU memory for weights.  [default: all but a reserve]"),
]
RamBudget = Annotated[
    float | None,
    typer.Option("--ram-budget", metavar="GB", help="Memory of the machine for weights.  [default: 60 percent]"),
]
