"""Those nodes of the recordings' node pack that show how a run goes: lists, lazy inputs, expansion, blocking, async."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from limner.engine.blocker import ExecutionBlocker
from limner.engine.context import RunContext
from limner.engine.graph_builder import GraphBuilder
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.spec import OutputSpec
from limner.graph.types import Flag, Float, Hidden, Int, Socket, Text

Image = Annotated[Any, Socket("IMAGE")]
Anything = Annotated[Any, Socket("*")]
Lazily = Annotated[Any, Socket("*", {"lazy": True})]
MODULE = "custom_nodes.anchor_pack"

CALLS: list[tuple[Any, ...]] = []
"""What the pack's hooks were asked, as it keeps it."""


@node(
    "ApList",
    category="anchor",
    module=MODULE,
    outputs=(OutputSpec(name="items", type="INT", is_list=True), OutputSpec(name="count", type="INT")),
)
def ap_list(*, n: Annotated[int, Int(0, 100)] = 3) -> tuple[list[int], int]:
    return list(range(n)), n


@node("ApCollect", category="anchor", module=MODULE, outputs=("STRING",), input_is_list=True)
def ap_collect(*, a: Anything, sep: Annotated[Any, Text()] = ",") -> str:
    return repr(a) + repr(sep)


@node("ApShowList", category="anchor", module=MODULE, outputs=(), output_node=True, input_is_list=True)
def ap_show_list(*, v: Anything) -> Result:
    return Result(ui={"text": [repr(v)]})


@node("ApHidden", category="anchor", module=MODULE, outputs=(), output_node=True)
def ap_hidden(
    *,
    k: Annotated[int, Int()] = 0,
    prompt: Annotated[Any, Hidden("PROMPT")],
    extra: Annotated[Any, Hidden("EXTRA_PNGINFO")],
    uid: Annotated[str, Hidden("UNIQUE_ID")],
    dyn: Annotated[Any, Hidden("DYNPROMPT")],
) -> Result:
    told = {
        "uid": uid,
        "extra": extra,
        "prompt_keys": sorted(prompt),
        "dyn": type(dyn).__name__,
        "dyn_methods": sorted(name for name in dir(dyn) if not name.startswith("_")),
    }
    return Result(ui={"text": [told]})


def _ask_lazily(pick_b: bool, a: Any, b: Any) -> list[str]:
    CALLS.append(("lazy", pick_b, a is None, b is None))
    return ["b"] if pick_b else ["a"]


@node("ApLazy", category="anchor", module=MODULE, outputs=("*",), lazy=_ask_lazily)
def ap_lazy(*, pick_b: Annotated[bool, Flag()] = False, a: Lazily, b: Lazily) -> Any:
    return b if pick_b else a


@node("ApBlock", category="anchor", module=MODULE, outputs=("IMAGE",))
def ap_block(*, image: Image, message: Annotated[str, Text()] = "", block: Annotated[bool, Flag()] = True) -> Any:
    return ExecutionBlocker(message or None) if block else image


@node("ApExpand", category="anchor", module=MODULE, outputs=("IMAGE",))
def ap_expand(*, size: Annotated[int, Int(1, 512)] = 16) -> Result:
    graph = GraphBuilder()
    empty = graph.node("EmptyImage", width=size, height=size, batch_size=1, color=0)
    inverted = graph.node("ImageInvert", image=empty.out(0))
    return Result(values=(inverted.out(0),), expand=graph.finalize())


@node("ApAsync", category="anchor", module=MODULE, outputs=("INT",))
async def ap_async(*, v: Annotated[int, Int()] = 0, seconds: Annotated[float, Float()] = 0.3) -> int:
    await asyncio.sleep(seconds / 10)  # a tenth: only the order counts
    return v


@node("ApText", category="anchor", module=MODULE, outputs=("INT",))
def ap_text(
    ctx: RunContext,
    *,
    v: Annotated[int, Int()] = 0,
    text: Annotated[str, Text()] = "hi",
    uid: Annotated[str, Hidden("UNIQUE_ID")],
) -> int:
    assert uid == ctx.node.id
    ctx.show_text(text)
    ctx.send("anchor.custom", {"v": v})
    ctx.send("anchor.broadcast", {"v": v}, everyone=True)
    return v


@node("ApCalls", category="anchor", module=MODULE, outputs=(), output_node=True, fingerprint=lambda: float("nan"))
def ap_calls(*, salt: Annotated[int, Int()] = 0) -> Result:
    told = [repr(each) for each in CALLS]
    CALLS.clear()
    return Result(ui={"text": told})


NODES = (
    ap_list, ap_collect, ap_show_list, ap_hidden, ap_lazy, ap_block, ap_expand, ap_async, ap_text, ap_calls,
)  # fmt: skip
