"""Runs a workflow: one node at a time, only what the wanted outputs need, and nothing twice."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from limner.engine.agenda import Agenda
from limner.engine.cache import Cached, OutputCache
from limner.engine.context import RunContext
from limner.engine.events import (
    Event,
    NodeFinished,
    NodeOutput,
    NodeRef,
    NodesCached,
    NodeStarted,
    RunFailed,
    RunInterrupted,
    RunResult,
    RunStarted,
    RunSucceeded,
)
from limner.engine.failure import Failure, check_shown, shown_inputs
from limner.errors import Interrupted, RunError
from limner.graph.keys import content_keys, passed_links
from limner.graph.spec import NodeSpec, NodeType, Result
from limner.graph.workflow import Node, Workflow, as_link, unwrapped

Emit = Callable[[Event], None]
End = RunSucceeded | RunFailed | RunInterrupted


class Executor:
    """Runs workflows with the nodes of a library, one after the other, and keeps their results in a cache."""

    def __init__(self, library: Mapping[str, NodeType], cache: OutputCache) -> None:
        self.library = library
        self.cache = cache
        self._made_for: tuple[str, list[str]] = ("", [])

    def run(
        self,
        *,
        workflow: dict[str, Any],
        outputs: Sequence[str],
        ctx: RunContext,
        emit: Emit,
        interrupted: Callable[[], bool],
    ) -> RunResult:
        """Runs a validated workflow to its end, here and now; what happens is told through `emit`.

        `ctx` is the context that nodes get; its node, on_step, on_warning and check are set here.
        `interrupted` is asked before each node and at each progress call. Whatever a node raises becomes a RunFailed,
        but for KeyboardInterrupt, which passes. Raises WorkflowInvalid where `workflow` is no graph of nodes.
        """
        run = _Run(self.library, self.cache, Workflow.parse(workflow), ctx, emit, interrupted)
        try:
            return run.go(outputs)
        finally:
            self._made_for = (ctx.tenant, run.output_keys)
            run.let_go()

    def retract(self) -> None:
        """Takes the last run's output nodes out of the cache: its end was refused, so its files will not be kept."""
        tenant, keys = self._made_for
        self.cache.drop(tenant, keys)


class _Run:
    """One run of one workflow."""

    def __init__(
        self,
        library: Mapping[str, NodeType],
        cache: OutputCache,
        workflow: Workflow,
        ctx: RunContext,
        emit: Emit,
        interrupted: Callable[[], bool],
    ) -> None:
        self.library = library
        self.cache = cache
        self.workflow = workflow
        self.ctx = ctx
        ctx.on_event, ctx.check = emit, self.check
        self.emit = emit
        self.interrupted = interrupted
        self.specs: dict[str, NodeSpec] = {name: kind.spec for name, kind in library.items()}
        self.keys: dict[str, str] = {}
        self.cached: dict[str, Cached] = {}  # there before the run began
        self.shown: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}  # ui and meta of results that have one
        self.values: dict[str, tuple[Any, ...]] = {}  # what nodes still to run will ask for
        self.users: dict[str, int] = {}  # how many links still to be served each node has
        self.fed_by: dict[str, list[str]] = {}
        self.executed: list[str] = []
        self.output_keys: list[str] = []

    def go(self, outputs: Sequence[str]) -> RunResult:
        self.emit(RunStarted(timestamp_ms=_now_ms()))
        self.look_up()
        self.emit(NodesCached(nodes=tuple(self.cached), timestamp_ms=_now_ms()))
        agenda = Agenda(self.uncached_feeders, self.is_output)
        for output in outputs:
            agenda.add(output)
        self.cached = {output: self.cached[output] for output in outputs if output in self.cached}  # pins no others
        end: End | None = None
        while end is None:
            node_id = agenda.next()
            if node_id is None:
                end = self.end(agenda.waiting())
            else:
                end = self.do(self.workflow.nodes[node_id])
                agenda.finish(node_id)
        self.emit(end)
        shown = {node_id: self.shown[node_id] for node_id in self.workflow.nodes if node_id in self.shown}
        return RunResult(
            end=end,
            outputs={node_id: ui for node_id, (ui, _) in shown.items()},
            meta={node_id: meta for node_id, (_, meta) in shown.items()},
        )

    def look_up(self) -> None:
        """Finds what earlier runs left of this workflow, and drops the rest of what they left."""
        self.keys = content_keys(self.workflow, self.specs, self.fingerprint)
        self.cache.keep_only(self.ctx.tenant, self.keys.values())
        for node_id in self.workflow.nodes:
            result = self.cache.find(self.ctx.tenant, self.keys[node_id])
            if result is not None:
                self.cached[node_id] = result
                self.show(node_id, result)

    def fingerprint(self, node: Node) -> Any:
        kind = self.library[node.class_type]
        if not kind.spec.fingerprinted:
            return None
        inputs = {name: None if as_link(value) else unwrapped(value) for name, value in node.inputs.items()}
        try:
            return kind.fingerprint(inputs, self.context(NodeRef.plain(node.id)))
        except Exception:  # as in ComfyUI: a node that cannot tell is never answered from the cache
            return math.nan

    def is_output(self, node_id: str) -> bool:
        spec = self.specs.get(self.workflow.nodes[node_id].class_type)
        return spec is not None and spec.output_node

    def uncached_feeders(self, node_id: str) -> Iterator[str]:
        """The nodes to run before this one. Keeps at hand what it will take from the cache."""
        if node_id in self.cached:
            return
        for feeder in self.feeders(node_id):
            self.users[feeder] = self.users.get(feeder, 0) + 1
            if feeder in self.cached:
                self.values[feeder] = self.cached[feeder].values
            else:
                yield feeder

    def feeders(self, node_id: str) -> list[str]:
        """The nodes that this one links to, one for each link; it will fail by itself on those that do not exist."""
        if node_id not in self.fed_by:
            node = self.workflow.nodes[node_id]
            links = passed_links(node, self.specs.get(node.class_type))
            self.fed_by[node_id] = [link.node_id for _, link in links if link.node_id in self.workflow.nodes]
        return self.fed_by[node_id]

    def do(self, node: Node) -> End | None:
        """Runs a node or takes its result from the cache. Gives the end of the run if it ends here."""
        ref = NodeRef.plain(node.id)
        result = self.cached.get(node.id) or self.cache.find(self.ctx.tenant, self.keys[node.id])
        if result is not None:
            self.keep(node.id, result)
            if result.ui:
                self.emit(NodeOutput(node=ref, ui=result.ui, cached=True))
            self.emit(NodeFinished(node=ref, cached=True))
            if node.id not in self.cached:
                self.release_feeders(node.id)
            return None
        self.emit(NodeStarted(node=ref))
        inputs: dict[str, Any] = {}
        try:
            self.check()
            kind = self.kind(node)
            self.gather(node, kind.spec, inputs)
            returned = kind.call(inputs, self.context(ref), kind.instance())
            assert isinstance(returned, Result)
            check_shown(returned)
        except Interrupted:
            return RunInterrupted(
                node=ref, node_type=node.class_type, executed=tuple(self.executed), timestamp_ms=_now_ms()
            )
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # SystemExit too: a node does not end the engine
            return self.failed(ref, node.class_type, Failure.of(raised), inputs)
        self.finish(ref, node, kind.spec, returned)
        return None

    def kind(self, node: Node) -> NodeType:
        if node.class_type not in self.library:
            raise RunError(f"this worker has no node {node.class_type}")
        return self.library[node.class_type]

    def gather(self, node: Node, spec: NodeSpec, into: dict[str, Any]) -> None:
        """The arguments of a node: declared inputs in the workflow's order, then what the engine fills in."""
        for name, value in node.inputs.items():
            if not (spec.open_inputs or name in spec.input):
                continue
            link = as_link(value)
            if link is None:
                into[name] = unwrapped(value)
            elif link.node_id not in self.values or not 0 <= link.slot < len(self.values[link.node_id]):
                raise RunError(f"input {name} links to output {link.slot} of node {link.node_id}, which does not exist")
            else:
                into[name] = self.values[link.node_id][link.slot]
        for name, wanted in spec.hidden.items():
            into[name] = self.hidden(wanted, node.id)

    def hidden(self, wanted: str, node_id: str) -> Any:
        if wanted == "UNIQUE_ID":
            return node_id
        return {"PROMPT": self.ctx.prompt, "EXTRA_PNGINFO": self.ctx.extra_pnginfo}.get(wanted)

    def finish(self, ref: NodeRef, node: Node, spec: NodeSpec, returned: Result) -> None:
        result = Cached(values=returned.values, ui=returned.ui, meta=_meta(ref))
        self.cache.put(self.ctx.tenant, self.keys[node.id], result)
        self.keep(node.id, result)
        self.executed.append(node.id)
        if spec.output_node:
            self.output_keys.append(self.keys[node.id])
        if returned.ui:
            self.emit(NodeOutput(node=ref, ui=returned.ui))
        self.emit(NodeFinished(node=ref))
        self.release_feeders(node.id)

    def release_feeders(self, node_id: str) -> None:
        """Lets go of values that no node will ask for any more; the cache may still keep them."""
        for feeder in self.feeders(node_id):
            self.users[feeder] -= 1
            if self.users[feeder] == 0:
                del self.values[feeder]

    def let_go(self) -> None:
        """Drops all values: the context still refers to this run, and large ones must not wait for the collector."""
        self.values.clear()
        self.cached.clear()

    def keep(self, node_id: str, result: Cached) -> None:
        if self.users.get(node_id):
            self.values[node_id] = result.values
        self.show(node_id, result)

    def show(self, node_id: str, result: Cached) -> None:
        if result.ui:
            self.shown[node_id] = (result.ui, result.meta)

    def end(self, waiting: Sequence[str]) -> RunSucceeded | RunFailed:
        """The end when nothing is ready: success, unless nodes wait for each other."""
        if not waiting:
            return RunSucceeded(timestamp_ms=_now_ms())
        node = self.workflow.nodes[waiting[0]]
        failure = Failure(
            exception_type="graph.DependencyCycleError",
            exception_message="Dependency cycle detected\n",
            traceback=(),
            code="invalid_workflow",
            retryable=False,
        )
        return self.failed(NodeRef.plain(node.id), node.class_type, failure, {})

    def failed(self, ref: NodeRef, node_type: str, failure: Failure, inputs: Mapping[str, Any]) -> RunFailed:
        return RunFailed(
            node=ref,
            node_type=node_type,
            exception_type=failure.exception_type,
            exception_message=failure.exception_message,
            traceback=failure.traceback,
            current_inputs=shown_inputs(inputs),
            current_outputs=tuple(self.workflow.nodes),
            executed=tuple(self.executed),
            code=failure.code,
            retryable=failure.retryable,
            timestamp_ms=_now_ms(),
        )

    def context(self, ref: NodeRef) -> RunContext:
        return self.ctx.at(ref)

    def check(self) -> None:
        if self.interrupted():
            raise Interrupted("the run was asked to stop")


def _meta(ref: NodeRef) -> dict[str, Any]:
    """What history tells of the node behind an output."""
    return {"node_id": ref.id, "display_node": ref.display, "parent_node": ref.parent, "real_node_id": ref.real}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
