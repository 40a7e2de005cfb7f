"""spandrel's architectures, imported without torchvision, which only two of them ask for.

RestoreFormer wants its `normalize`, LaMa its `rotate`. Where torchvision is absent both get a stand-in while spandrel
is imported; it is gone afterwards, so that no other library takes torchvision for installed.
"""

from __future__ import annotations

import enum
import importlib
import importlib.util
import sys
from functools import cache
from types import ModuleType
from typing import Any

from torch import Tensor

from limner.errors import ModelFileError

ABSENT = "torchvision"


@cache
def spandrel() -> Any:
    """The library. Loading it takes a second or two."""
    if importlib.util.find_spec(ABSENT) is not None:
        return importlib.import_module("spandrel")
    stand_in = _stand_in()
    sys.modules.update(stand_in)
    try:
        return importlib.import_module("spandrel")
    finally:
        for name in stand_in:
            del sys.modules[name]


class InterpolationMode(enum.Enum):
    """How torchvision names the ways between pixels."""

    BILINEAR = "bilinear"


def normalize(x: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """x (B, C, H, W) less the mean of each channel, over its spread."""
    shape = (-1, 1, 1)
    return (x - x.new_tensor(mean).reshape(shape)) / x.new_tensor(std).reshape(shape)


def rotate(*_: object, **__: object) -> Tensor:
    """Raises ModelFileError: only LaMa turns pictures, which fills holes and enlarges nothing."""
    raise ModelFileError("models of the LaMa architecture fill holes in pictures; they cannot be used for upscaling")


def _stand_in() -> dict[str, ModuleType]:
    names = [ABSENT, f"{ABSENT}.transforms", f"{ABSENT}.transforms.functional"]
    modules = {name: ModuleType(name) for name in names}
    vars(modules[names[-1]]).update(InterpolationMode=InterpolationMode, normalize=normalize, rotate=rotate)
    return modules
