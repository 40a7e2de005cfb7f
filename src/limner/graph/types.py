"""Markers that say, in a node function's annotations, what each input is. Plain data: no torch.

    Image = Annotated[Any, Socket("IMAGE")]

    @node("Blur", category="image")
    def blur(*, image: Image, radius: Annotated[int, Int(1, 31)] = 3) -> Image: ...

A parameter's default becomes the widget's `default`. A `Socket` with a default is an optional input; a widget is one
when its marker says `optional=True`. `options` adds keys to what /object_info shows; `{}` shows an empty object.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

ANY = "*"
COMBO = "COMBO"
"""A combo box whose choices stand in `options.options`; older nodes give the list of choices as the type itself."""

GROWING = "COMFY_AUTOGROW_V3"
"""Inputs of one type that grow in number: NAME.FIRST, NAME.SECOND, ..."""

FOLLOWING = "COMFY_DYNAMICCOMBO_V3"
"""A combo box whose choice brings inputs of its own: NAME.INPUT."""

MATCHING = "COMFY_MATCHTYPE_V3"
"""An input or output of any type, equal for all those of a node that share a template."""

_DYNAMIC = re.compile(r"COMFY_\w+_V\d+")

InputType = str | list[Any]
"""A socket type by name, or the list of choices of a combo box."""


class Marker:
    """What an input (or an output) is: its type, its options, and where its choices come from."""

    kind: str | None = None
    folder: str | None = None
    upload: str | None = None
    last: tuple[str, ...] = ()
    takes_default = True

    def __init__(self, type: InputType, options: Mapping[str, Any] | None = None, *, optional: bool = False) -> None:
        self.type = type
        self.options = None if options is None else dict(options)
        self.optional = optional

    def default(self, value: Any) -> Any:
        """The signature's default as /object_info shows it."""
        return value

    def shown(self) -> list[Any]:
        """`[type, options]`, as an input within another one shows it."""
        options = self.options or {}
        if isinstance(self.type, list):
            return [COMBO, {"multiselect": False, "options": self.type, **options}]
        return [self.type, options]


class Socket(Marker):
    """An input that only a link can feed, or the type of an output. `Socket("*")` joins with every type."""

    takes_default = False

    def __init__(self, type: str, options: Mapping[str, Any] | None = None, *, optional: bool = False) -> None:
        super().__init__(type, options, optional=optional)


class Int(Marker):
    """A whole number in min..max, both included."""

    def __init__(
        self,
        min: int | None = None,
        max: int | None = None,
        *,
        step: int | None = None,
        optional: bool = False,
        **options: Any,
    ) -> None:
        super().__init__("INT", _options(min=min, max=max, step=step, **options), optional=optional)


class Float(Marker):
    """A number in min..max, both included. `step` and `round` are for the editor; no value is rounded."""

    def __init__(
        self,
        min: float | None = None,
        max: float | None = None,
        *,
        step: float | None = None,
        round: float | None = None,
        optional: bool = False,
        **options: Any,
    ) -> None:
        bounds = {"min": None if min is None else float(min), "max": None if max is None else float(max)}
        super().__init__("FLOAT", _options(**bounds, step=step, round=round, **options), optional=optional)

    def default(self, value: Any) -> Any:
        return float(value)


class Text(Marker):
    """A text; `multiline` gives it a large field, `dynamic_prompts` lets the editor expand {a|b}."""

    def __init__(
        self,
        *,
        multiline: bool | None = None,
        dynamic_prompts: bool | None = None,
        optional: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            "STRING", _options(multiline=multiline, dynamicPrompts=dynamic_prompts, **options), optional=optional
        )


class Flag(Marker):
    """Yes or no."""

    def __init__(self, *, optional: bool = False, **options: Any) -> None:
        super().__init__("BOOLEAN", _options(**options), optional=optional)


class Choices(Marker):
    """One of some values, told one by one or by a callable that gives them when the node is declared."""

    def __init__(self, *choices: Any, options: Mapping[str, Any] | None = None, optional: bool = False) -> None:
        given_by_callable = len(choices) == 1 and callable(choices[0])
        super().__init__(list(choices[0]() if given_by_callable else choices), options, optional=optional)


class Files(Choices):
    """One of the files of a model folder (`checkpoints`, `loras`, ...), as the worker has them."""

    def __init__(
        self,
        folder: str,
        *,
        last: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
        optional: bool = False,
    ) -> None:
        """last: words that are offered behind the files."""
        super().__init__(*last, options=options, optional=optional)
        self.folder = folder
        self.last = tuple(last)


class InputFiles(Choices):
    """One of the tenant's own input files; the editor shows an upload button for this `upload` kind."""

    def __init__(
        self, upload: str = "image", *, options: Mapping[str, Any] | None = None, optional: bool = False
    ) -> None:
        super().__init__(options={f"{upload}_upload": True, **(options or {})}, optional=optional)
        self.upload = upload


class Grows(Marker):
    """Inputs of one kind that grow in number, for the parameter `**NAME`: they arrive as `NAME.image0` and so on.

    Slots are called by `names`, else `prefix` and a number from 0; the first `least` of them are required.
    """

    takes_default = False

    def __init__(
        self, each: Marker, *, names: Sequence[str] = (), prefix: str = "", least: int = 1, most: int = 100
    ) -> None:
        called = {"names": list(names)} if names else {"prefix": prefix, "max": most}
        shown = {"required": {prefix or "value": each.shown()}}
        super().__init__(GROWING, {"template": {"input": shown, **called, "min": least}})


class Follows(Marker):
    """A combo box whose choice brings further inputs, told by name; they arrive as `NAME.INPUT` in `**inputs`.

    Those inputs are required. Their defaults stand in their markers' options.
    """

    def __init__(self, choices: Mapping[str, Mapping[str, Marker]]) -> None:
        shown = [
            {"key": key, "inputs": {"required": {name: each.shown() for name, each in inputs.items()}}}
            for key, inputs in choices.items()
        ]
        super().__init__(FOLLOWING, {"options": shown})


class Matches(Socket):
    """An input or output of any of the `allowed` types; those of a node with the same `template` have the same one."""

    def __init__(
        self, template: str, options: Mapping[str, Any] | None = None, *, allowed: str = ANY, optional: bool = False
    ) -> None:
        told = {"template": {"template_id": template, "allowed_types": allowed}, **(options or {})}
        super().__init__(MATCHING, told, optional=optional)


class Hidden(Marker):
    """A value that the engine fills in: PROMPT, EXTRA_PNGINFO, UNIQUE_ID or DYNPROMPT."""

    kind = "hidden"
    takes_default = False

    def __init__(self, value: str) -> None:
        super().__init__(value)


def joins(received: InputType, wanted: InputType) -> bool:
    """Whether an output of type `received` may feed an input of type `wanted`; any-types are for the caller to know.

    Equal types join, and texts whose comma-separated parts share one. INT does not feed FLOAT.
    """
    if received == wanted:
        return True
    if isinstance(received, str) and isinstance(wanted, str):
        return not {part.strip() for part in received.split(",")}.isdisjoint(part.strip() for part in wanted.split(","))
    return False


def is_box(type_: InputType) -> bool:
    """Whether this is a combo box: a list of choices, or the word for one whose choices stand elsewhere."""
    return isinstance(type_, list) or type_ == COMBO


def is_dynamic(type_: InputType) -> bool:
    """Whether an input of this type stands for inputs of other names, or for the type of what is joined to it.

    ComfyUI's newer nodes have such: inputs that grow in number, or that follow a choice.
    """
    return isinstance(type_, str) and _DYNAMIC.fullmatch(type_) is not None


def _options(**options: Any) -> dict[str, Any] | None:
    return {name: value for name, value in options.items() if value is not None} or None
