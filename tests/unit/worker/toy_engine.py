"""An engine process with toy nodes and no torch: `python toy_engine.py --fd N`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from limner.engine.blocker import ExecutionBlocker
from limner.engine.cache import OutputCache
from limner.engine.context import RunContext
from limner.engine.executor import Executor
from limner.engine.library import NodeLibrary
from limner.enginehost.channel import Channel
from limner.enginehost.host import Host, Loaded, Tell
from limner.enginehost.protocol import EngineInfo
from limner.errors import NotFound
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.types import Flag, Int, Socket, Text


@node("Echo", category="toy", outputs=("TEXT",))
def echo(*, text: Annotated[str, Text()] = "") -> str:
    """Gives its text on, and prints it."""
    print(f"echo: {text}", flush=True)
    return text


@node("Save", category="toy", outputs=(), output_node=True)
def save(
    ctx: RunContext,
    *,
    text: Annotated[Any, Socket("TEXT")],
    prefix: Annotated[str, Text()] = "toy",
    type: Annotated[str, Text()] = "output",
) -> Result:
    """Writes its text into a file."""
    [file] = ctx.files.reserve(type=type, prefix=prefix, count=1, width=1, height=1, extension=".txt")
    file.path.write_text(str(text))
    return Result(ui={"files": [file.ui()]})


@node("Read", category="toy", outputs=("TEXT",))
def read(ctx: RunContext, *, name: Annotated[str, Text()] = "") -> str:
    """The text of an input file."""
    return ctx.files.input(name).read_text()


@node("Steps", category="toy", outputs=("TEXT",))
def steps(ctx: RunContext, *, count: Annotated[int, Int(0, 10**9)] = 3) -> str:
    """Takes steps, and can be interrupted at each of them."""
    for number in range(count):
        ctx.progress(number + 1, count, ("image/png", b"picture") if ctx.previews else None)
        time.sleep(0.001)
    return "walked"


@node("Deaf", category="toy", outputs=("TEXT",))
def deaf(ctx: RunContext) -> str:
    """Says that it began, and never looks again whether it was interrupted."""
    ctx.progress(1, 2)
    threading.Event().wait(60)
    return ""


@node("Die", category="toy", outputs=("TEXT",))
def die() -> str:
    """Ends the process as a fault of the GPU would."""
    os._exit(7)


@node("Orphan", category="toy", outputs=("TEXT",))
def orphan(ctx: RunContext, *, detached: Annotated[bool, Flag()] = False) -> str:
    """Starts a process that holds all that is open here, and ends as by `kill -9`."""
    child = subprocess.Popen(["sleep", "60"], close_fds=False, start_new_session=detached)
    ctx.warn(str(child.pid))
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


@node("Inside", category="toy", outputs=("TEXT",))
def inside() -> str:
    """Tells whether it runs in what the engine wants its nodes to run in."""
    return "inside" if within else "outside"


@node("Fail", category="toy", outputs=("TEXT",))
def fail() -> str:
    """Raises."""
    raise NotFound("there is nothing here")


@node("Leave", category="toy", outputs=("TEXT",))
def leave(*, how: Annotated[str, Text()] = "exit") -> str:
    """Tries to end the process as a script would."""
    if how == "exit":
        sys.exit(3)
    raise SystemExit("bye") if how == "raise" else GeneratorExit


@node("Chatter", category="toy", outputs=("TEXT",))
def chatter() -> str:
    """Prints more than any pipe holds, one line without an end among it."""
    sys.stdout.write("x" * (3 << 20) + "\n")
    for number in range(2000):
        print("line", number, "y" * 200)
    print("and to stderr", file=sys.stderr)
    sys.stdout.flush()
    return "said"


@node("Hoard", category="toy", outputs=("TEXT",))
def hoard() -> str:
    """Never gives back what it takes: memory, threads, open files."""
    HOARD.append(bytearray(20 << 20))
    HOARD.append(Path(__file__).open("rb"))  # noqa: SIM115 - it is never closed: that is the point
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    return "kept"


@node("Wait", category="toy", outputs=("TEXT",))
async def wait() -> str:
    """Waits for ever, without holding the thread."""
    await asyncio.Event().wait()
    return ""


@node("Tell", category="toy", outputs=("TEXT",))
def tell(ctx: RunContext) -> Any:
    """Says all that a pack may say, and blocks what comes after."""
    ctx.show_text("shown")
    ctx.send("pack.done", {"a": 1}, everyone=True)
    return ExecutionBlocker("no further")


HOARD: list[Any] = []
within = False


@contextmanager
def computing() -> Iterator[None]:
    global within
    within = True
    yield
    within = False


class NoModels:
    def resident(self) -> list[str]:
        return ["toy.safetensors"]

    def unload(self) -> None:
        print("unloaded", flush=True)


NODES = (echo, save, read, steps, deaf, die, orphan, inside, fail, leave, chatter, hoard, wait, tell)


def load(preload: Callable[[], None]) -> Loaded:
    if "--broken" in sys.argv:
        raise RuntimeError("no libraries here")
    library = NodeLibrary.of(NODES)
    executor = Executor(library, OutputCache())
    return Loaded(executor=executor, models=NoModels(), preload=preload, computing=computing, serve=serve)


def serve(asked: dict[str, Any], body: bytes, answer: Tell) -> None:
    """Answers with the body in capital letters, or as the path says."""
    if asked["path"] == "/dies":
        os._exit(3)
    if asked["path"] != "/says-nothing":
        told = {"routed": True, "status": 200, "headers": asked["headers"], "fault": None}
        threading.Thread(target=answer, args=(told, body.upper())).start()


def main() -> None:
    from limner.enginehost import protocol

    digest = "toy"

    def preload() -> None:
        nonlocal digest
        if "--busy" in sys.argv:
            digest = "busy"
            host.announce()
            threading.Event().wait(60)

    channel = Channel(socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1])))
    secrets = [{"name": name} for name in os.environ if name.startswith("LIMNER_")]
    host = Host(
        channel,
        describe=lambda ready: EngineInfo(ready=ready, digest=digest, devices=secrets),
        load=lambda: load(preload),
    )
    try:
        host.serve()
    except RuntimeError as error:
        channel.send({"kind": protocol.FATAL, "message": str(error)})


if __name__ == "__main__":
    main()
