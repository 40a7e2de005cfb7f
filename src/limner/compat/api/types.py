"""The types of the schema style, and the inputs that have widgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limner.compat.api.inputs import (
    Input,
    Output,
    RemoteOptions,
    UploadType,
    WidgetInput,
    choices_of,
    complete,
    plain,
    told,
)
from limner.nodes.media.svg import SVG


class Boolean:
    Type = bool

    class Input(WidgetInput):
        def __init__(
            self, id: str, *values: Any, label_on: str | None = None, label_off: str | None = None, **more: Any
        ) -> None:
            super().__init__(id, *values, label_on=label_on, label_off=label_off, **more)


class Int:
    Type = int

    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            display_name: str | None = None,
            optional: bool = False,
            tooltip: str | None = None,
            lazy: bool | None = None,
            default: int | None = None,
            min: int | None = None,
            max: int | None = None,
            step: int | None = None,
            control_after_generate: Any = None,
            display_mode: Any = None,
            **more: Any,
        ) -> None:
            own = {"min": min, "max": max, "step": step, "control_after_generate": control_after_generate}
            super().__init__(
                id, display_name, optional, tooltip, lazy, default, **own, display_mode=display_mode, **more
            )


class Float:
    Type = float

    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            display_name: str | None = None,
            optional: bool = False,
            tooltip: str | None = None,
            lazy: bool | None = None,
            default: float | None = None,
            min: float | None = None,
            max: float | None = None,
            step: float | None = None,
            round: float | None = None,
            display_mode: Any = None,
            **more: Any,
        ) -> None:
            own = {"min": min, "max": max, "step": step, "round": round, "display_mode": display_mode}
            super().__init__(id, display_name, optional, tooltip, lazy, default, **own, **more)


class String:
    Type = str

    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            display_name: str | None = None,
            optional: bool = False,
            tooltip: str | None = None,
            lazy: bool | None = None,
            multiline: bool = False,
            placeholder: str | None = None,
            default: str | None = None,
            dynamic_prompts: bool | None = None,
            **more: Any,
        ) -> None:
            own: dict[str, Any] = {"multiline": multiline, "placeholder": placeholder}
            own["dynamic_prompts"] = dynamic_prompts
            super().__init__(id, display_name, optional, tooltip, lazy, default, **own, **more)


class Combo:
    Type = str

    class Input(WidgetInput):
        """`options` may be a list or an Enum. Model files (`folder_paths.get_filename_list`) stay up to date."""

        def __init__(
            self,
            id: str,
            options: Any = None,
            display_name: str | None = None,
            optional: bool = False,
            tooltip: str | None = None,
            lazy: bool | None = None,
            default: Any = None,
            control_after_generate: Any = None,
            upload: UploadType | None = None,
            image_folder: Any = None,
            remote: RemoteOptions | None = None,
            **more: Any,
        ) -> None:
            own = {"control_after_generate": control_after_generate, "image_folder": image_folder, "remote": remote}
            super().__init__(id, display_name, optional, tooltip, lazy, default, **own, **more)
            self.options_list = choices_of(options)
            self.upload = upload

        def own(self) -> dict[str, Any]:
            shown = {"multiselect": False, **super().own()}
            if self.options_list is not None:
                shown["options"] = self.options_list
            if self.upload is not None:
                shown[str(plain(self.upload))] = True
            return shown


class MultiCombo:
    Type = list

    class Input(Combo.Input):
        """Several of the choices."""

        def __init__(
            self,
            id: str,
            options: Any = None,
            *values: Any,
            placeholder: str | None = None,
            chip: bool | None = None,
            **more: Any,
        ) -> None:
            super().__init__(id, options, *values, **more)
            self.placeholder = placeholder
            self.chip = chip

        def own(self) -> dict[str, Any]:
            picked = told(placeholder=self.placeholder, chip=self.chip)
            return {**super().own(), "multiselect": True, **picked, **({"multi_select": picked} if picked else {})}


class MultiType:
    """An input of one of several types."""

    class Input(Input):
        """`id` may be another input, whose widget is shown while nothing is linked."""

        def __init__(self, id: Any, types: Sequence[Any], *values: Any, **more: Any) -> None:
            self.widget: WidgetInput | None = id if isinstance(id, WidgetInput) else None
            self.types = list(types)
            own = [self.widget.io_type] if self.widget is not None else []
            if self.widget is not None:
                shown = self.widget
                given = {"display_name": shown.display_name, "optional": shown.optional, "tooltip": shown.tooltip}
                super().__init__(shown.id, *values, **{**given, "lazy": shown.lazy, **more})
            else:
                super().__init__(id, *values, **more)
            self.multi = ",".join(dict.fromkeys(str(each) for each in [*own, *(t.io_type for t in self.types)]))
            self.any_type = "*" in self.multi.split(",")

        def get_io_type(self) -> str:
            return self.multi

        def own(self) -> dict[str, Any]:
            return {} if self.widget is None else {**self.widget.own(), "widgetType": self.widget.io_type}


class MatchType:
    """Inputs and outputs of any type, equal for all of a node's that share a template."""

    class Template:
        def __init__(self, template_id: str, allowed_types: Any = None) -> None:
            self.template_id = template_id
            given = (
                [] if allowed_types is None else allowed_types if isinstance(allowed_types, list) else [allowed_types]
            )
            self.allowed_types = given

        def as_dict(self) -> dict[str, Any]:
            types = ",".join(str(each.io_type) for each in self.allowed_types) or "*"
            return {"template_id": self.template_id, "allowed_types": types}

    class Input(Input):
        any_type = True

        def __init__(self, id: str, template: MatchType.Template, *values: Any, **more: Any) -> None:
            super().__init__(id, *values, **more)
            self.template = template

        def own(self) -> dict[str, Any]:
            return {"template": self.template.as_dict()}

    class Output(Output):
        any_type = True

        def __init__(self, template: MatchType.Template, *values: Any, **more: Any) -> None:
            super().__init__(*values, **more)
            self.template = template


class Autogrow:
    """Inputs of one kind that grow in number. `execute` gets a dict of them by name."""

    Type = dict

    class TemplatePrefix:
        def __init__(self, input: Input, prefix: str, min: int = 1, max: int = 10) -> None:
            self.input, self.prefix, self.min, self.max = input, prefix, min, max

        def as_dict(self) -> dict[str, Any]:
            return {"input": sections([self.input]), "prefix": self.prefix, "min": self.min, "max": self.max}

    class TemplateNames:
        def __init__(self, input: Input, names: Sequence[str], min: int = 1) -> None:
            self.input, self.names, self.min = input, list(names), min

        def as_dict(self) -> dict[str, Any]:
            return {"input": sections([self.input]), "names": self.names, "min": self.min}

    class Input(Input):
        def __init__(self, id: str, template: Any, *values: Any, **more: Any) -> None:
            super().__init__(id, *values, **more)
            self.template = template

        def own(self) -> dict[str, Any]:
            return {"template": self.template.as_dict()}


class DynamicCombo:
    """A box whose choice brings inputs of its own. `execute` gets a dict: the choice under its own name, and those."""

    Type = dict

    class Option:
        def __init__(self, key: str, inputs: Sequence[Input]) -> None:
            self.key, self.inputs = key, list(inputs)

        def as_dict(self) -> dict[str, Any]:
            return {"key": self.key, "inputs": sections(self.inputs)}

    class Input(Input):
        def __init__(self, id: str, options: Sequence[DynamicCombo.Option], *values: Any, **more: Any) -> None:
            super().__init__(id, *values, **more)
            self.choices = list(options)

        def own(self) -> dict[str, Any]:
            return {"options": [each.as_dict() for each in self.choices]}


def sections(inputs: Sequence[Input]) -> dict[str, Any]:
    """Inputs within another one: required and optional, by name."""
    found: dict[str, Any] = {}
    for each in inputs:
        shown = [each.get_io_type(), dict(each.options())]
        found.setdefault("optional" if each.optional else "required", {})[each.id] = shown
    return found


SOCKETS: Mapping[str, str] = {
    "Accumulation": "ACCUMULATION", "AnyType": "*", "Audio": "AUDIO", "AudioEncoder": "AUDIO_ENCODER",
    "AudioEncoderOutput": "AUDIO_ENCODER_OUTPUT", "BBOX": "BBOX", "BoundingBox": "BOUNDING_BOX", "Clip": "CLIP",
    "ClipVision": "CLIP_VISION", "ClipVisionOutput": "CLIP_VISION_OUTPUT", "Conditioning": "CONDITIONING",
    "ControlNet": "CONTROL_NET", "FaceAnalysis": "FACE_ANALYSIS", "FlowControl": "FLOW_CONTROL", "Gligen": "GLIGEN",
    "Guider": "GUIDER", "HookKeyframes": "HOOK_KEYFRAMES", "Hooks": "HOOKS", "Image": "IMAGE", "Latent": "LATENT",
    "LatentOperation": "LATENT_OPERATION", "LatentUpscaleModel": "LATENT_UPSCALE_MODEL", "Load3D": "LOAD_3D",
    "Load3DAnimation": "LOAD3D_ANIMATION", "Load3DCamera": "LOAD3D_CAMERA", "LoraModel": "LORA_MODEL",
    "LossMap": "LOSS_MAP", "MODEL_PATCH": "MODEL_PATCH", "Mask": "MASK", "Mesh": "MESH", "Model": "MODEL",
    "ModelPatch": "MODEL_PATCH", "Noise": "NOISE", "Photomaker": "PHOTOMAKER", "Point": "POINT", "SEGS": "SEGS",
    "SVG": "SVG", "Sampler": "SAMPLER", "Sigmas": "SIGMAS", "StyleModel": "STYLE_MODEL",
    "TimestepsRange": "TIMESTEPS_RANGE", "Tracks": "TRACKS", "UpscaleModel": "UPSCALE_MODEL", "Vae": "VAE",
    "Video": "VIDEO", "Voxel": "VOXEL", "WanCameraEmbedding": "WAN_CAMERA_EMBEDDING", "Webcam": "WEBCAM",
}  # fmt: skip
"""Types without a widget, by their names in `io`."""

TYPES: dict[str, Any] = {
    **{name: complete(type(name, (), {}), io_type) for name, io_type in SOCKETS.items()},
    "Autogrow": complete(Autogrow, "COMFY_AUTOGROW_V3"),
    "AutogrowDynamic": Autogrow,
    "Boolean": complete(Boolean, "BOOLEAN"),
    "Combo": complete(Combo, "COMBO"),
    "DynamicCombo": complete(DynamicCombo, "COMFY_DYNAMICCOMBO_V3"),
    "Float": complete(Float, "FLOAT"),
    "Int": complete(Int, "INT"),
    "MatchType": complete(MatchType, "COMFY_MATCHTYPE_V3"),
    "MultiCombo": complete(MultiCombo, "COMBO"),
    "MultiType": complete(MultiType, "*"),
    "String": complete(String, "STRING"),
}
TYPES["SVG"].Type = SVG
