"""Wrappers: functions of node packs that are called around a walk, around each call of the network, and between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from limner.errors import UnfitInput

OUTER_SAMPLE = "outer_sample"
SAMPLER_SAMPLE = "sampler_sample"
PREDICT_NOISE = "predict_noise"
CALC_COND_BATCH = "calc_cond_batch"
APPLY_MODEL = "apply_model"
DIFFUSION_MODEL = "diffusion_model"

KINDS = frozenset({OUTER_SAMPLE, SAMPLER_SAMPLE, PREDICT_NOISE, CALC_COND_BATCH, APPLY_MODEL, DIFFUSION_MODEL})
"""Around what there may be wrappers."""

Wrapper = Callable[..., Any]
Named = dict[str, dict[str | None, list[Wrapper]]]
"""By kind, and by a key of the pack's choice."""


class Executor:
    """What a wrapper is given first: calling it goes on, at last with the function itself. `class_obj`: whose it is."""

    def __init__(self, original: Callable[..., Any], class_obj: Any, wrappers: Sequence[Wrapper], idx: int = 0) -> None:
        self.original = original
        self.class_obj = class_obj
        self.wrappers = list(wrappers)
        self.idx = idx

    @classmethod
    def new_executor(cls, original: Callable[..., Any], wrappers: Sequence[Wrapper], idx: int = 0) -> Executor:
        return cls(original, None, wrappers, idx)

    @classmethod
    def new_class_executor(
        cls, original: Callable[..., Any], class_obj: Any, wrappers: Sequence[Wrapper], idx: int = 0
    ) -> Executor:
        return cls(original, class_obj, wrappers, idx)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return Executor(self.original, self.class_obj, self.wrappers, self.idx + 1).execute(*args, **kwargs)

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the first wrapper, or the function where there is none."""
        if self.idx >= len(self.wrappers):
            return self.original(*args, **kwargs)
        return self.wrappers[self.idx](self, *args, **kwargs)


def around(kind: str, original: Callable[..., Any], owner: Any, options: Mapping[str, Any]) -> Callable[..., Any]:
    """The function under the wrappers of a kind that `transformer_options` tells of."""
    found = of_kind(kind, options)
    return Executor(original, owner, found).execute if found else original


def of_kind(kind: str, options: Mapping[str, Any]) -> list[Wrapper]:
    """All wrappers of a kind in these `transformer_options`."""
    named: Mapping[str | None, Sequence[Wrapper]] = options.get("wrappers", {}).get(kind, {})
    return [wrapper for wrappers in named.values() for wrapper in wrappers]


def checked(kind: Any) -> str:
    """The name of a kind. Raises UnfitInput for one around which nothing is called here."""
    name = str(getattr(kind, "value", kind))
    if name not in KINDS:
        raise UnfitInput(f"Limner calls no wrappers of the kind {name!r}; it does for {', '.join(sorted(KINDS))}")
    return name


def joined(first: Named, second: Mapping[str, Mapping[str | None, Sequence[Wrapper]]]) -> Named:
    """Both, those of `first` outside."""
    made: Named = {kind: {key: list(each) for key, each in named.items()} for kind, named in first.items()}
    for kind, named in second.items():
        for key, wrappers in named.items():
            mine = made.setdefault(kind, {}).setdefault(key, [])
            mine += [wrapper for wrapper in wrappers if not any(wrapper is each for each in mine)]
    return made
