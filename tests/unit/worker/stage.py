"""A worker over a bus in memory, with an engine that does as it is told and a gateway that answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from limner.blobs.memory import MemoryStore
from limner.bus import subjects
from limner.bus.memory import MemoryBus
from limner.bus.messages import (
    CatalogueAnswer,
    CatalogueOffer,
    Claim,
    Claimed,
    Control,
    Done,
    Keep,
    Live,
    Message,
    Reserve,
    Reserved,
    Resumed,
    Settled,
    Token,
)
from limner.enginehost.protocol import EngineInfo, RunRequest
from limner.errors import Unavailable
from limner.worker.engines.port import EngineEvent, EngineLost, RunEnded, Sink, Wanted
from limner.worker.loop import Worker, WorkerConfig

INFO = EngineInfo(catalogue={"nodes": {}}, digest="abc", ready=True)
NODE = {"id": "1", "display": "1", "parent": None, "real": "1"}
FAILED_END = {
    "node": NODE,
    "node_type": "K",
    "exception_type": "E",
    "exception_message": "no memory\n",
    "traceback": [],
    "current_inputs": {},
    "current_outputs": [],
    "executed": [],
    "code": "dependency_unavailable",
}
Script = Callable[["FakeEngine", RunRequest, Sink], Awaitable[RunEnded]]


async def succeed(engine: FakeEngine, request: RunRequest, sink: Sink) -> RunEnded:
    await sink.event(EngineEvent(kind="RunStarted", data={"timestamp_ms": 1}))
    await sink.event(EngineEvent(kind="NodesCached", data={"nodes": ["1"], "timestamp_ms": 2}))
    return RunEnded(outcome="succeeded", end={"timestamp_ms": 3}, outputs={"2": {}}, models=["m"])


async def wait_for_interrupt(engine: FakeEngine, request: RunRequest, sink: Sink) -> RunEnded:
    engine.running.set()
    await engine.interrupted.wait()
    return RunEnded(outcome="interrupted", end={"node": NODE, "node_type": "K", "executed": [], "timestamp_ms": 3})


async def be_lost(engine: FakeEngine, request: RunRequest, sink: Sink) -> RunEnded:
    engine.alive = False
    raise EngineLost("the engine process was lost", node=NODE, node_type="K")


async def save_one(engine: FakeEngine, request: RunRequest, sink: Sink) -> RunEnded:
    [name] = await sink.reserve(Wanted(call=1, subfolder="s", prefix="x", extension=".png", count=1))
    path = Path(request.folder) / "1.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"picture")
    file = {"path": str(path), "type": "output", "filename": name["filename"], "subfolder": name["subfolder"]}
    await sink.event(EngineEvent(kind="NodeOutput", data={"node": NODE, "ui": {}}, files=[file]))
    return await succeed(engine, request, sink)


async def save_one_and_fail(engine: FakeEngine, request: RunRequest, sink: Sink) -> RunEnded:
    await save_one(engine, request, sink)
    return RunEnded(outcome="failed", end=FAILED_END | {"retryable": engine.retryable})


async def save_one_and_wait(engine: FakeEngine, request: RunRequest, sink: Sink) -> RunEnded:
    await save_one(engine, request, sink)
    return await wait_for_interrupt(engine, request, sink)


class FakeEngine:
    """Runs `script` for each job."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.info = EngineInfo()
        self.told = INFO  # what it says of itself once it is up
        self.alive = False
        self.starts = 0
        self.accepted_runs = 0
        self.calls: list[str] = []
        self.requests: list[RunRequest] = []
        self.retryable = True
        self.starts_well = True
        self.running = asyncio.Event()
        self.interrupted = asyncio.Event()
        self.resumes = False
        self.checks = False

    async def start(self) -> None:
        self.starts += 1
        if not self.starts_well:
            raise EngineLost("it is not there")
        self.alive, self.info = True, self.told

    async def run(self, request: RunRequest, sink: Sink) -> RunEnded:
        self.requests.append(request)
        self.interrupted.clear()
        if request.interrupted:
            self.interrupted.set()
        return await self.script(self, request, sink)

    async def interrupt(self) -> None:
        self.interrupted.set()

    async def watch(self, previews: bool) -> None:
        self.calls.append(f"watch {previews}")

    async def retract(self) -> None:
        self.calls.append("retract")

    async def accepted(self) -> None:
        self.accepted_runs += 1

    async def renew(self) -> None:
        self.calls.append("renew")

    async def free(self, *, unload_models: bool, free_memory: bool) -> None:
        self.calls.append(f"free {unload_models} {free_memory}")

    async def close(self) -> None:
        self.alive = False


class Stage:
    """A gateway's answers, one worker, and what came out."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.bus = MemoryBus()
        self.blobs = MemoryStore()
        self.engine = FakeEngine(succeed)
        self.worker = Worker(
            config=WorkerConfig(id="w", pool="default", scratch=folder / "work", output=folder / "output"),
            bus=self.bus,
            blobs=self.blobs,
            engine=self.engine,
            clock=lambda: self.now,
        )
        self.held: list[dict[str, object]] = []  # what the worker had before, for its Resume
        self.resumes = 0
        self.claims: list[Claim] = []
        self.done: asyncio.Queue[Done] = asyncio.Queue()
        self.offers: asyncio.Queue[CatalogueOffer] = asyncio.Queue()
        self.live: list[Live] = []
        self.claim_answer = Claimed(
            ok=True, token="t1", attempt=1, tenant="default", prompt_id="p", client_id="c", workflow={}, outputs=["2"]
        )
        self.output = folder / "output"
        self.faults: list[str] = []  # answers to leave out: "claim", "done", "reserve", "resume"
        self.early: list[Control] = []  # what reaches the worker before the answer to its claim
        self.reserves = 0
        self.kept_key: str | None = "t/default/jobs/job/t1/1f.png"
        self.settled = Settled(ok=True)
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.bus.serve(subjects.CLAIM, subjects.GATEWAYS, self._on_claim)
        await self.bus.serve(subjects.DONE, subjects.GATEWAYS, self._on_done)
        await self.bus.serve(subjects.RESERVE, subjects.GATEWAYS, self._on_reserve)
        await self.bus.serve(subjects.KEEP, subjects.GATEWAYS, self._on_keep)
        await self.bus.serve(subjects.RESUME, subjects.GATEWAYS, self._on_resume)
        await self.bus.serve(subjects.CATALOGUE, subjects.GATEWAYS, self._on_offer)
        await self.bus.subscribe("limner.ev.>", self._on_event)
        self.task = asyncio.create_task(self.worker.run())

    async def close(self) -> None:
        assert self.task is not None
        await self.worker.drain()
        await asyncio.wait_for(self.task, 10)

    async def submit(self, job: str = "job", lane: str = "any") -> None:
        await self.bus.publish_token("default", lane, Token(id=job, epoch=0))

    async def hold(self, job: str = "job") -> str:
        """Delivers a job's token to an earlier life of the worker; the delivery's id."""
        await self.submit(job)
        delivery = await self.bus.pull("default", ())
        assert delivery is not None
        self.held.append({"id": job, "epoch": 0, "delivery": delivery.id})
        return delivery.id

    async def ended(self) -> Done:
        async with asyncio.timeout(10):
            return await self.done.get()

    async def tokens_left(self, number: int) -> None:
        async with asyncio.timeout(10):
            while len(await self.bus.pending("default")) != number:
                await asyncio.sleep(0.001)

    def _answer(self, kind: str, answer: Message) -> Message:
        if kind in self.faults:
            self.faults.remove(kind)
            raise Unavailable(f"the answer to a {kind} was lost")
        return answer

    async def _on_claim(self, body: bytes) -> Message:
        self.claims.append(Claim.decode(body))
        for control in self.early:
            await self.bus.publish(subjects.control("w"), control.encode())
        return self._answer("claim", self.claim_answer)

    async def _on_done(self, body: bytes) -> Message:
        answer = self._answer("done", self.settled)
        self.done.put_nowait(Done.decode(body))
        return answer

    async def _on_reserve(self, body: bytes) -> Message:
        self.reserves += 1
        asked = Reserve.decode(body)
        name = {
            "filename": f"{asked.prefix}_00001_.png",
            "subfolder": asked.subfolder,
            "key": "t/default/jobs/job/t1/0.png",
        }
        return self._answer("reserve", Reserved(ok=True, names=[name]))

    async def _on_keep(self, body: bytes) -> Message:
        asked = Keep.decode(body)
        names = [
            {"filename": f"kept {file['filename']}", "subfolder": file["subfolder"], "key": self.kept_key}
            for file in asked.files
        ]
        return Reserved(ok=True, names=names) if self.kept_key is not None else Reserved(ok=False, reason="a bad name")

    async def _on_resume(self, body: bytes) -> Message:
        self.resumes += 1
        return self._answer("resume", Resumed(ok=True, jobs=self.held))

    async def _on_offer(self, body: bytes) -> Message:
        offer = CatalogueOffer.decode(body)
        self.offers.put_nowait(offer)
        return CatalogueAnswer(ok=True, wanted=offer.catalogue is None)

    async def _on_event(self, subject: str, body: bytes) -> None:
        self.live.append(Live.decode(body))
