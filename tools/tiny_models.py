"""Writes a model folder with random weights, small enough for any machine, for the workflows in examples/workflows.

    python -m tools.tiny_models FOLDER

Their pictures are noise: they show that a workflow runs, and how.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.support.tiny.folder import save_all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    save_all(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        print(f"{path.stat().st_size / 2**20:7.1f} MB  {path.relative_to(folder)}")


if __name__ == "__main__":
    main()
