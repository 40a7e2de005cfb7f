"""Toy nodes: the node pack that the recordings were made with, and core nodes that only pretend to make pictures."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from limner.engine.context import RunContext, SavedFile
from limner.engine.library import NodeLibrary
from limner.graph.catalogue import Catalogue
from limner.graph.kinds import FunctionNode, Result
from limner.graph.node import node
from limner.graph.spec import NodeSpec, OutputSpec, ValidatorSpec
from limner.graph.types import Choices, Flag, Float, Hidden, Int, Socket, Text
from tests.support import anchor_nodes
from tests.support.recordings import DATA

Image = Annotated[Any, Socket("IMAGE")]
Anything = Annotated[Any, Socket("*")]
UniqueId = Annotated[str, Hidden("UNIQUE_ID")]


@dataclass(frozen=True)
class Picture:
    """Stands for a tensor."""

    nbytes: int = 1000

    def __getitem__(self, index: int) -> Picture:
        return self

    def __rsub__(self, other: float) -> Picture:
        return self

    def __str__(self) -> str:
        return "<str() of the tensor>"


class ToyFiles:
    """Names as ComfyUI counts them, written nowhere."""

    def __init__(self, **counters: int) -> None:
        self.counters = counters

    def input(self, reference: str) -> Path:
        return Path(reference)

    def adopt(self, path: Path, *, type: str, subfolder: str, filename: str) -> SavedFile:
        return SavedFile(path=path, filename=filename, subfolder=subfolder, type=type)

    def reserve(
        self, *, type: str, prefix: str, count: int, width: int, height: int, extension: str
    ) -> list[SavedFile]:
        start = self.counters.get(prefix, 0) + 1
        self.counters[prefix] = start + count - 1
        names = [f"{prefix}_{start + number:05}_{extension}" for number in range(count)]
        return [SavedFile(path=Path(name), filename=name, subfolder="", type=type) for name in names]


def _anchor(name: str, **options: Any) -> Callable[..., Any]:
    return node(name, category="anchor", module="custom_nodes.anchor_pack", **options)


@_anchor("ApRaise")
def ap_raise(*, image: Image, text: Annotated[str, Text()] = "boom") -> Image:
    raise ValueError(text)


def _sleep(ctx: RunContext, image: Any, slices: int) -> Any:
    for done in range(slices):
        ctx.progress(done + 1, slices)
    return image


@_anchor("ApSleep")
def ap_sleep(
    ctx: RunContext,
    *,
    image: Image,
    slices: Annotated[int, Int(1, 1000)] = 4,
    slice_s: Annotated[float, Float(0, 10)] = 0.05,
    unique_id: UniqueId,
) -> Image:
    return _sleep(ctx, image, slices)


@_anchor("ApMutated")
def ap_mutated(
    ctx: RunContext,
    *,
    image: Image,
    slices: Annotated[int, Int(1, 1000)] = 4,
    slice_s: Annotated[float, Float(0, 10)] = 0.05,
    salt: Annotated[int, Int()] = 0,
    unique_id: UniqueId,
) -> Image:
    return _sleep(ctx, image, slices)


@_anchor("ApTypes", outputs=("STRING",), output_node=True)
def ap_types(
    *,
    i: Annotated[int, Int(0, 10, step=2)] = 1,
    f: Annotated[float, Float(0, 1, step=0.1, round=0.01)] = 0.5,
    s: Annotated[str, Text(multiline=True)] = "x",
    b: Annotated[bool, Flag()] = True,
    c: Annotated[str, Choices("one", "two")],
    image: Image | None = None,
) -> Result:
    text = repr((i, f, s, b, c))
    return Result(values=(text,), ui={"text": [text]})


@_anchor("ApValidate", outputs=(), output_node=True)
def ap_validate(*, mode: Annotated[str, Text()] = "ok", n: Annotated[int, Int(0, 5)]) -> Result:
    return Result(ui={"text": [f"{mode} {n}"]})


@_anchor("ApValidateTypes", outputs=(), output_node=True)
def ap_validate_types(*, a: Annotated[Any, Socket("INT,FLOAT")], n: Annotated[int, Int(0, 5)]) -> Result:
    return Result(ui={"text": [repr((type(a).__name__, n))]})


@_anchor("ApInt", outputs={"value": "INT", "text": "STRING"})
def ap_int(*, v: Annotated[int, Int()] = 0) -> tuple[int, str]:
    return v, str(v)


@_anchor("ApJoin", outputs=("STRING",))
def ap_join(*, a: Anything, b: Anything, tag: Annotated[str, Text(optional=True)] = "t") -> str:
    return f"{a}|{b}|{tag}"


@_anchor("ApShow", outputs=(), output_node=True)
def ap_show(*, v: Anything) -> Result:
    return Result(ui={"text": [str(v)]})


@_anchor("ApNaN", outputs=("INT",), fingerprint=lambda v: float("nan"))
def ap_nan(*, v: Annotated[int, Int()] = 0) -> int:
    return v


@_anchor("ApConstChanged", outputs=("INT",), fingerprint=lambda v: "same")
def ap_const_changed(*, v: Annotated[int, Int()] = 0) -> int:
    return v


ANCHOR_PACK = (
    ap_raise, ap_sleep, ap_mutated, ap_types, ap_validate, ap_validate_types, ap_int, ap_join, ap_show, ap_nan,
    ap_const_changed, *anchor_nodes.NODES,
)  # fmt: skip


def _save(ctx: RunContext, images: Any, prefix: str, type: str) -> Result:
    files = ctx.files.reserve(type=type, prefix=prefix, count=1, width=1, height=1, extension=".png")
    assert images[0] is not None
    return Result(ui={"images": [file.ui() for file in files]})


def _temp_prefix(ctx: RunContext) -> str:
    """Five letters that differ from node to node."""
    return f"ComfyUI_temp_{chr(ord('a') + sum(ctx.node.id.encode()) % 26) * 5}"


def _sample(ctx: RunContext, steps: int, **inputs: Any) -> str:
    for done in range(steps):
        ctx.progress(done + 1, steps)
    return "latent"


def _blend(ctx: RunContext, blend_mode: str, **inputs: Any) -> Picture:
    return Picture()


CORE_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "EmptyImage": lambda ctx, **inputs: Picture(),
    "ImageScale": lambda ctx, **inputs: Picture(),
    "ImageInvert": lambda ctx, image: 1.0 - image,
    "ImageBlend": _blend,
    "SaveImage": lambda ctx, images, filename_prefix, **hidden: _save(ctx, images, filename_prefix, "output"),
    "PreviewImage": lambda ctx, images, **hidden: _save(ctx, images, _temp_prefix(ctx), "temp"),
    "LoadImage": lambda ctx, image: (Picture(), Picture()),
    "CheckpointLoaderSimple": lambda ctx, ckpt_name: ("model", "clip", "vae"),
    "CLIPTextEncode": lambda ctx, text, clip: f"conditioning {text}",
    "EmptyLatentImage": lambda ctx, **inputs: "latent",
    "KSampler": _sample,
    "VAEDecode": lambda ctx, samples, vae: Picture(),
    "VAEEncode": lambda ctx, pixels, vae: "latent",
}


def core_specs() -> dict[str, NodeSpec]:
    """The specs of the core nodes as recorded, with what /object_info does not tell added."""
    infos = json.loads((DATA / "object_info_sample.json").read_text())
    infos |= json.loads(gzip.decompress((DATA / "comfyui_object_info.json.gz").read_bytes()))
    specs = {name: NodeSpec.from_json(infos[name]) for name in CORE_FUNCTIONS}
    specs["LoadImage"] = _with(specs["LoadImage"], "image", upload="image")
    specs["CheckpointLoaderSimple"] = _with(specs["CheckpointLoaderSimple"], "ckpt_name", folder="checkpoints")
    return specs


def _with(spec: NodeSpec, name: str, **changes: Any) -> NodeSpec:
    inputs = tuple(replace(each, **changes) if each.name == name else each for each in spec.inputs)
    return replace(spec, inputs=inputs)


def library() -> NodeLibrary:
    core = [
        FunctionNode(spec=spec, function=CORE_FUNCTIONS[name], wants_context=True)
        for name, spec in core_specs().items()
    ]
    return NodeLibrary([*core, *NodeLibrary.of(ANCHOR_PACK).values()])


def catalogue() -> Catalogue:
    """The toys as data, with the validators that the node pack's classes have."""
    specs = dict(library().specs)
    specs["ApValidate"] = replace(specs["ApValidate"], validator=ValidatorSpec(inputs=("mode", "n")))
    specs["ApValidateTypes"] = replace(specs["ApValidateTypes"], validator=ValidatorSpec(all_inputs=True, types=True))
    return Catalogue(nodes=specs, models={"checkpoints": ("anchor_sd15.safetensors",)})


def custom_check(class_type: str, inputs: dict[str, Any], types: dict[str, Any]) -> bool | str:
    """What the validation code of the node pack's classes answers."""
    if class_type == "ApValidateTypes":
        return "no images please" if types.get("a") == "IMAGE" else True
    if inputs["mode"] == "raise":
        raise RuntimeError("validator raised")
    answers: dict[str, bool | str] = {"text": "reason given by the node", "false": False}
    return answers.get(inputs["mode"], True)


def list_node(name: str, count: int) -> NodeSpec:
    """A spec with `count` integer outputs, for graphs made by tests."""
    return NodeSpec(
        name=name,
        display_name=name,
        category="toy",
        outputs=tuple(OutputSpec(name=f"out {number}", type="INT") for number in range(count)),
    )
