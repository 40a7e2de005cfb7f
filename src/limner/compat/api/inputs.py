"""Inputs and outputs as the schema style declares them: `io.Int.Input("steps", default=20)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, StrEnum
from typing import Any, ClassVar


class UploadType(StrEnum):
    image = "image_upload"
    audio = "audio_upload"
    video = "video_upload"
    model = "file_upload"


class FolderType(StrEnum):
    input = "input"
    output = "output"
    temp = "temp"


class NumberDisplay(StrEnum):
    number = "number"
    slider = "slider"
    gradient_slider = "gradientslider"
    color = "color"


class ControlAfterGenerate(StrEnum):
    fixed = "fixed"
    increment = "increment"
    decrement = "decrement"
    randomize = "randomize"


class RemoteOptions:
    """Where the browser asks for the choices of a box."""

    def __init__(
        self,
        route: str,
        refresh_button: bool,
        control_after_refresh: str = "first",
        timeout: int | None = None,
        max_retries: int | None = None,
        refresh: int | None = None,
    ) -> None:
        self.route = route
        self.refresh_button = refresh_button
        self.control_after_refresh = control_after_refresh
        self.timeout = timeout
        self.max_retries = max_retries
        self.refresh = refresh

    def as_dict(self) -> dict[str, Any]:
        return told(**vars(self))


class Input:
    """An input that a link feeds. `io_type` is its class's; MultiType and others have one for each input."""

    io_type: Any = "*"
    any_type = False

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        extra_dict: Mapping[str, Any] | None = None,
        raw_link: bool | None = None,
        advanced: bool | None = None,
    ) -> None:
        self.id = id
        self.display_name = display_name
        self.optional = optional
        self.tooltip = tooltip
        self.lazy = lazy
        self.extra_dict = dict(extra_dict or {})
        self.rawLink = raw_link
        self.advanced = advanced

    def get_io_type(self) -> Any:
        return self.io_type

    def options(self) -> dict[str, Any]:
        """What /object_info shows beside the type."""
        shown = told(
            display_name=self.display_name,
            tooltip=self.tooltip,
            lazy=self.lazy,
            rawLink=self.rawLink,
            advanced=self.advanced,
        )
        return {**shown, **self.own(), **self.extra_dict}

    as_dict = options

    def own(self) -> dict[str, Any]:
        """The options of this kind of input alone."""
        return {}


class WidgetInput(Input):
    """An input with a field in the editor."""

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        default: Any = None,
        socketless: bool | None = None,
        widget_type: str | None = None,
        force_input: bool | None = None,
        extra_dict: Mapping[str, Any] | None = None,
        raw_link: bool | None = None,
        advanced: bool | None = None,
        **own: Any,
    ) -> None:
        super().__init__(id, display_name, optional, tooltip, lazy, extra_dict, raw_link, advanced)
        self.default = default
        self.socketless = socketless
        self.widget_type = widget_type
        self.force_input = force_input
        self._own = own
        for name, value in own.items():
            setattr(self, name, value)

    def own(self) -> dict[str, Any]:
        shown = told(
            default=plain(self.default),
            socketless=self.socketless,
            widgetType=self.widget_type,
            forceInput=self.force_input,
        )
        return {**shown, **told(**{OPTION_NAMES.get(name, name): plain(each) for name, each in self._own.items()})}


OPTION_NAMES = {"display_mode": "display", "dynamic_prompts": "dynamicPrompts"}
"""Words of the declaration that /object_info has otherwise."""


class Output:
    """An output. Without an id it gets one of its place and type."""

    io_type: Any = "*"
    any_type = False

    def __init__(
        self,
        id: str | None = None,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ) -> None:
        self.id = id
        self.display_name = display_name
        self.tooltip = tooltip
        self.is_output_list = is_output_list

    def get_io_type(self) -> Any:
        return self.io_type


class ComfyType:
    """Base of the types: a name, and how inputs and outputs of it are declared."""

    io_type: ClassVar[Any] = "*"
    Type: ClassVar[Any] = Any
    Input: ClassVar[type[Input]]
    Output: ClassVar[type[Output]]


ComfyTypeI = ComfyType
ComfyTypeIO = ComfyType


def comfytype(io_type: str, **_more: Any) -> Any:
    """Makes a class a type: gives it its name, and Input and Output where it has none of its own."""

    def mark(declared: Any) -> Any:
        return complete(declared, io_type)

    return mark


def complete(declared: Any, io_type: Any) -> Any:
    """Gives a type's class what it lacks. Its inputs and outputs are of classes of its own, which know the type."""
    any_type = io_type == "*"
    declared.io_type = io_type
    for name, base in (("Input", Input), ("Output", Output)):
        own = getattr(declared, name, base)
        members = {
            "io_type": io_type,
            "any_type": any_type,
            "Parent": declared,
            "__qualname__": f"{declared.__name__}.{name}",
        }
        setattr(declared, name, type(name, (own,), members))
    if not hasattr(declared, "Type"):
        declared.Type = Any
    return declared


def custom(io_type: str) -> Any:
    """A type of this name, for what only a pack knows."""
    return complete(type(io_type, (), {}), io_type)


def told(**options: Any) -> dict[str, Any]:
    """Those that say something."""
    return {name: value for name, value in options.items() if value is not None}


def plain(value: Any) -> Any:
    """Enums by their values."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, RemoteOptions):
        return value.as_dict()
    return value


def choices_of(options: Any) -> Any:
    """The choices of a box: a list as it is, an Enum's values, or whatever can be gone through."""
    if isinstance(options, type) and issubclass(options, Enum):
        return [each.value for each in options]
    if options is None or isinstance(options, list):
        return options
    return list(options) if isinstance(options, Sequence) and not isinstance(options, str) else options
