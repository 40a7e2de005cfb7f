"""The engine process: `python -m limner.processes.engine --fd N [--models FOLDER]`. It has torch, and no secrets."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from limner import logs
from limner.engine.policy import CachePolicy
from limner.enginehost import protocol
from limner.enginehost.channel import Channel
from limner.enginehost.describe import Describer
from limner.enginehost.host import Host, Loaded
from limner.models.files import ModelFolders
from limner.worker.orphans import watch_parent

if TYPE_CHECKING:
    from limner.compat.custom import Custom


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor says when to stop
    channel = Channel(socket.socket(fileno=arguments.fd))
    watch_parent(os.getppid())
    try:
        folders = ModelFolders(arguments.models, arguments.extra_model_paths)
        describer = Describer(folders, partial=bool(arguments.custom_nodes))

        def load() -> Loaded:
            custom = _custom(arguments, folders)
            from limner.enginehost.loading import load as load_engine  # torch: seconds, and only after we said hello
            from limner.models import pickled, residency

            pickled.allow(arguments.allow_pickle)
            residency.settle(vram_gb=arguments.vram_budget, ram_gb=arguments.ram_budget)
            return load_engine(folders, describer, custom, cache=arguments.cache)

        Host(channel, describe=describer, load=load).serve()
    except Exception as error:
        traceback.print_exc()
        channel.send({"kind": protocol.FATAL, "message": f"{type(error).__name__}: {error}"})
        return 1
    return 0


def _custom(arguments: argparse.Namespace, folders: ModelFolders) -> Custom | None:
    """The packs of custom nodes, if there are to be any; they need a folder to work in."""
    if not arguments.custom_nodes:
        return None
    from limner.compat.custom import Custom

    logs.setup("text", "info")
    work = arguments.work or Path(tempfile.mkdtemp(prefix="limner-custom-"))
    return Custom.begin(arguments.custom_nodes, work=work, models=folders, with_routes=arguments.custom_node_routes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="limner.processes.engine")
    parser.add_argument("--fd", type=int, required=True, help="the inherited socket to the supervisor")
    parser.add_argument("--models", type=Path, action="append", default=[], help="a folder with checkpoints/ ...")
    parser.add_argument("--custom-nodes", type=Path, action="append", default=[], help="a folder with packs of nodes")
    parser.add_argument("--custom-node-routes", action="store_true", help="answer the packs' HTTP routes")
    parser.add_argument("--cache", type=CachePolicy.parse, default=CachePolicy(), help="classic, lru=N, ram=GB or none")
    parser.add_argument("--extra-model-paths", type=Path, action="append", default=[], help="tells of more folders")
    parser.add_argument("--allow-pickle", action="store_true", help="read pickled model files, tensors only")
    parser.add_argument("--vram-budget", type=float, default=0.0, help="GB of GPU memory for weights; 0: the default")
    parser.add_argument("--ram-budget", type=float, default=0.0, help="GB of memory for weights; 0: the default")
    parser.add_argument("--work", type=Path, help="a folder that is this process's own while it lives")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
