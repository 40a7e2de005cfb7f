"""One run of one workflow: which node next, what it gets, what becomes of what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from limner.engine.agenda import Agenda
from limner.engine.cache import Cached
from limner.engine.checks import Verdict, check
from limner.engine.context import RunContext
from limner.engine.ends import CYCLE, End, failed, meta_of, now_ms
from limner.engine.events import (
    Event,
    NodeBlocked,
    NodeFinished,
    NodeOutput,
    NodeRef,
    NodesCached,
    NodeStarted,
    RunInterrupted,
    RunResult,
    RunStarted,
    RunSucceeded,
    Warned,
)
from limner.engine.expansion import Expanded, links_of, read_graphs, resolved, shown_within
from limner.engine.failure import Failure, by_hand, check_shown
from limner.engine.flights import Flights
from limner.engine.hooks import Hooks
from limner.engine.mapping import Items, Slots, joined, joined_ui
from limner.engine.scene import Scene, Tools, items_behind
from limner.engine.side_by_side import SideBySide
from limner.engine.values import Values
from limner.errors import Interrupted, RunError
from limner.graph.kinds import Result
from limner.graph.workflow import Node, Workflow

Emit = Callable[[Event], None]


class Run:
    """Runs nodes one after the other, async ones side by side; tells what happens by `emit`."""

    def __init__(
        self, tools: Tools, workflow: Workflow, ctx: RunContext, emit: Emit, interrupted: Callable[[], bool]
    ) -> None:
        self._interrupted = interrupted
        ctx.on_event, ctx.check = emit, self._check
        self._emit = emit
        self._ctx = ctx
        self._tools = tools
        self._scene = Scene(tools, workflow, ctx)
        self._nodes = self._scene.nodes
        self._beside = SideBySide(self._check)
        self._hooks = Hooks(self._scene, self._beside)
        self._flights = Flights(self._scene, self._beside, self._blocked)
        self._agenda = Agenda(self._feeders, self._scene.is_output, self._scene.is_async)
        self._values = Values(self._find)
        self._expanded: dict[str, Expanded] = {}
        self._begun: dict[str, str] = {}  # key to the node that was called and is not done: an equal one waits for it
        self._shown: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}  # ui and meta of results that have one
        self._inner: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}  # those of cached nodes' children
        self._executed: list[str] = []
        self.files_made_by: list[str] = []
        """Keys of results whose nodes may have written files."""

    def go(self, outputs: Sequence[str]) -> RunResult:
        """Runs to the end, and tells it."""
        self._emit(RunStarted(timestamp_ms=now_ms()))
        try:
            end = self._prepare(outputs)
        except Interrupted:
            end = self._stopped(None)
        while end is None:
            end = self._step()
        self._emit(end)
        shown = {node_id: self._shown[node_id] for node_id in self._nodes if node_id in self._shown} | self._inner
        return RunResult(
            end=end,
            outputs={node_id: ui for node_id, (ui, _) in shown.items()},
            meta={node_id: meta for node_id, (_, meta) in shown.items()},
        )

    def let_go(self) -> None:
        """Ends what still goes on and drops all values: large ones must not wait for the collector."""
        self._beside.close()
        self._flights.clear()
        self._values.clear()
        self._expanded.clear()

    # Before the first node

    def _prepare(self, outputs: Sequence[str]) -> End | None:
        """Lets classes check their inputs, finds what is cached, and makes the plan."""
        verdict = check(self._nodes, outputs, self._tools.library, self._scene.wiring, self._hooks.check)
        if verdict.node_errors and not verdict.outputs:
            return self._refused(verdict)
        for node_id, text in verdict.warnings().items():
            self._emit(Warned(node=self._scene.ref(node_id), text=text))
        cached = self._look_up()
        self._emit(NodesCached(nodes=tuple(cached), timestamp_ms=now_ms()))
        self._values.pin(cached)
        for output in verdict.outputs:
            self._agenda.add(output)
        self._values.unpin(keep=verdict.outputs)
        return None

    def _look_up(self) -> dict[str, Cached]:
        """Finds what earlier runs left of this workflow; what they left besides, the cache's policy may drop."""
        tenant = self._ctx.tenant
        self._tools.objects.keep_only(tenant, {node.id: node.class_type for node in self._nodes.values()})
        self._scene.settle_keys(self._hooks.fingerprint)
        self._tools.cache.begin(tenant, self._scene.keys.values())
        cached = {}
        for node_id in self._nodes:
            result = self._find(node_id)
            if result is not None:
                cached[node_id] = result
                self._show(node_id, result)
        return cached

    # The plan

    def _feeders(self, node_id: str) -> Iterator[str]:
        """The nodes to run before this one. Holds what it will take from others, be it made already or not."""
        if self._values.pinned(node_id) is not None:
            return
        wiring = self._scene.wiring(self._nodes[node_id])
        eager = set(wiring.eager())
        for source in wiring.sources():
            if source not in self._nodes:  # the node will fail by itself
                continue
            if not self._values.hold(node_id, source) and source in eager:
                yield self._to_make(source)

    def _to_make(self, node_id: str) -> str:
        """A node whose result somebody needs and nobody has, be it that one has been made and is gone."""
        if self._agenda.is_done(node_id):
            self._agenda.again(node_id)
        return node_id

    def _step(self) -> End | None:
        """Does the next thing that can be done; the end of the run where there is nothing left, or something failed."""
        node_id = self._agenda.next()
        if node_id is not None:
            node = self._nodes[node_id]
            return self._guarded(node, lambda inputs: self._begin(node, inputs)) or self._land()
        if self._flights:
            waiting_node = next(iter(self._flights)).node
            return self._guarded(waiting_node, lambda _: self._wait()) or self._land()
        waiting = self._agenda.waiting()
        if not waiting:
            return RunSucceeded(timestamp_ms=now_ms())
        refs = [self._scene.ref(node_id) for node_id in waiting]
        blamed = next((ref for ref in refs if ref.display != ref.id), refs[0])
        return self._failed(self._nodes[blamed.id], CYCLE, {})

    def _guarded(self, node: Node, work: Callable[[dict[str, Items]], None]) -> End | None:
        """Does something for a node. Whatever it raises ends the run, but not the engine: SystemExit too."""
        inputs: dict[str, Items] = {}
        try:
            work(inputs)
        except Interrupted:
            return self._stopped(node)
        except BaseException as raised:
            if by_hand(raised):
                raise
            return self._failed(node, Failure.of(raised), inputs)
        return None

    # One node

    def _begin(self, node: Node, inputs: dict[str, Items]) -> None:
        """Calls a node, takes its result from the cache, or ends it once the graph in its place is done."""
        expanded = self._expanded.pop(node.id, None)
        if expanded is not None:
            self._end_expansion(node, expanded)
            return
        key = self._scene.keys[node.id]
        result = self._values.pinned(node.id) or self._values.twin(key) or self._find(node.id)
        if result is not None:
            self._take(node, result)
            return
        if key in self._begun:
            self._values.hold(node.id, self._begun[key])
            self._agenda.block(node.id, [self._begun[key]])
            return
        self._emit(NodeStarted(node=self._scene.ref(node.id)))
        self._check()
        kind = self._scene.kind(node)
        self._scene.gather(node, kind, self._values, inputs)
        instance = self._scene.instance(node, kind)
        if self._scene.wiring(node).lazy:
            wanted = self._hooks.wanted(node, kind, instance, inputs, self._values)
            if wanted:
                self._agenda.block(node.id, [self._to_make(source) for source in wanted])
                return
        self._begun[key] = node.id
        flight = self._flights.begin(node, kind, instance, inputs)
        if not flight.under_way:
            self._returned(node, flight.results)

    def _wait(self) -> None:
        self._check()
        self._flights.wait()

    def _land(self) -> End | None:
        """Ends the nodes whose awaited calls are all done. Gives the end of the run where one of them failed."""
        flights = list(self._flights)
        if not flights:
            return None
        end = self._guarded(flights[0].node, lambda _: self._flights.turn())
        if end is not None:
            return end
        for flight in flights:

            def land(inputs: dict[str, Items], flight: Any = flight) -> None:
                inputs.update(flight.inputs)
                if flight.look():
                    self._flights.end(flight)
                    self._returned(flight.node, flight.results)

            end = self._guarded(flight.node, land)
            if end is not None:
                return end
        return None

    def _returned(self, node: Node, results: Sequence[Result]) -> None:
        """All calls of a node are done: its result is kept, or the graph that runs in its place is begun."""
        ui = joined_ui(results)
        if ui is not None:
            check_shown(ui)
            self._emit(NodeOutput(node=self._scene.ref(node.id), ui=ui))
        if any(each.expand is not None for each in results):
            self._begin_expansion(node, results, ui)
        else:
            self._finish(node, joined(results, self._scene.kind(node).spec.outputs), ui)

    # Expansion

    def _begin_expansion(self, node: Node, results: Sequence[Result], ui: dict[str, list[Any]] | None) -> None:
        """Puts the graph that a node returned on the agenda; the node waits for it."""
        children = read_graphs(results, node.id, self._ctx.dynprompt)
        self._scene.grow(children, node.id, self._hooks.fingerprint)
        links = tuple(links_of(results))
        for link in links:
            if link.node_id not in self._nodes:
                raise RunError(f"what node {node.id} returned links to node {link.node_id}, which does not exist")
        self._expanded[node.id] = Expanded(results, ui, tuple(children), links)
        needed = [link.node_id for link in links if not self._values.hold(node.id, link.node_id)]
        needed += [child for child in children if self._scene.is_output(child)]
        self._agenda.block(node.id, [self._to_make(each) for each in needed])

    def _end_expansion(self, node: Node, expanded: Expanded) -> None:
        """The graph in the node's place is done."""
        outputs = self._scene.kind(node).spec.outputs
        slots = resolved(expanded, outputs, lambda link: items_behind(link, self._values, "an output"))
        self._finish(node, slots, expanded.ui, children=expanded.children)

    # Results

    def _find(self, node_id: str) -> Cached | None:
        """The result of this node or of an equal one, if the cache has it."""
        return self._tools.cache.find(self._ctx.tenant, self._scene.keys[node_id])

    def _take(self, node: Node, result: Cached) -> None:
        """Ends a node with a result that is there already."""
        ref = self._scene.ref(node.id)
        self._values.keep(node.id, self._scene.keys[node.id], result)
        self._show(node.id, result)
        if result.ui:
            self._emit(NodeOutput(node=ref, ui=result.ui, cached=True))
        self._emit(NodeFinished(node=ref, cached=True))
        self._done(node)

    def _finish(
        self, node: Node, slots: Slots, ui: dict[str, list[Any]] | None, *, children: Sequence[str] = ()
    ) -> None:
        """Ends a node with a new result."""
        ref = self._scene.ref(node.id)
        key = self._scene.keys[node.id]
        del self._begun[key]
        result = Cached(values=slots, ui=ui, meta=meta_of(ref), inner=shown_within(children, self._shown))
        under = "" if ref.real == ref.id else self._scene.keys[ref.real]
        self._tools.cache.put(self._ctx.tenant, key, result, under=under)
        self._values.keep(node.id, key, result)
        self._show(node.id, result)
        self._executed.append(node.id)
        if ui or children or self._scene.is_output(node.id):
            self.files_made_by.append(key)
        self._emit(NodeFinished(node=ref))
        self._done(node)

    def _done(self, node: Node) -> None:
        self._values.release(node.id)
        self._agenda.finish(node.id)

    def _show(self, node_id: str, result: Cached) -> None:
        if result.ui:
            self._shown[node_id] = (result.ui, result.meta)
        self._inner.update(result.inner)

    def _blocked(self, node: Node, message: str) -> None:
        told = tuple(self._executed)
        ref = self._scene.ref(node.id)
        self._emit(NodeBlocked(node=ref, node_type=self._scene.real_class(node), message=message, executed=told))

    # Ends

    def _check(self) -> None:
        if self._interrupted():
            raise Interrupted("the run was asked to stop")

    def _stopped(self, node: Node | None) -> RunInterrupted:
        ref = NodeRef.plain("") if node is None else self._scene.ref(node.id)
        real = "" if node is None else self._scene.real_class(node)
        return RunInterrupted(node=ref, node_type=real, executed=tuple(self._executed), timestamp_ms=now_ms())

    def _failed(self, node: Node, failure: Failure, inputs: Mapping[str, Items]) -> End:
        ref = self._scene.ref(node.id)
        real = self._scene.real_class(node)
        return failed(ref, real, failure, inputs=inputs, nodes=self._nodes, executed=self._executed)

    def _refused(self, verdict: Verdict) -> End:
        """No output may run, by what nodes say of their own inputs."""
        node = self._nodes[next(iter(verdict.node_errors))]
        ref = self._scene.ref(node.id)
        return failed(ref, node.class_type, verdict.failure(), nodes=self._nodes, refusal=verdict.refusal())
