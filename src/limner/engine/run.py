"""One run of one workflow: which node next, what it gets, what becomes of what it gives."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limner.engine.agenda import Agenda
from limner.engine.blocker import ExecutionBlocker, first_blocker
from limner.engine.cache import Cached, OutputCache
from limner.engine.checks import Verdict, check
from limner.engine.context import RunContext, calling
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
from limner.engine.expansion import Expanded, links_of, read_graphs, ref_of, resolved, shown_within
from limner.engine.failure import Failure, check_shown
from limner.engine.kept import KeptObjects
from limner.engine.lazy import missing_lazy
from limner.engine.mapping import Items, Slots, calls, joined, joined_ui
from limner.engine.side_by_side import Call, SideBySide, value_of
from limner.engine.values import Values
from limner.engine.wiring import Wiring, hidden_value, known_inputs
from limner.errors import Interrupted, RunError
from limner.graph.keys import FileMark, content_keys
from limner.graph.spec import NodeType, Result
from limner.graph.workflow import Link, Node, Workflow

Emit = Callable[[Event], None]
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Tools:
    """What all runs of an executor share."""

    library: Mapping[str, NodeType]
    cache: OutputCache
    objects: KeptObjects
    file_mark: FileMark | None


@dataclass(slots=True)
class Flight:
    """A node whose async calls go on; `given` holds the results of those that are done."""

    node: Node
    inputs: dict[str, Items]
    given: list[Result | Call]

    def under_way(self) -> list[Call]:
        return [each for each in self.given if not isinstance(each, Result)]


class Run:
    """Runs nodes one after the other, async ones side by side; tells what happens by `emit`."""

    def __init__(
        self, tools: Tools, workflow: Workflow, ctx: RunContext, emit: Emit, interrupted: Callable[[], bool]
    ) -> None:
        self.tools = tools
        self.workflow = workflow
        self.nodes: dict[str, Node] = dict(workflow.nodes)
        self.ctx = ctx
        ctx.on_event, ctx.check = emit, self.check
        self.emit = emit
        self.interrupted = interrupted
        self.specs = {name: kind.spec for name, kind in tools.library.items()}
        self.keys: dict[str, str] = {}
        self.wirings: dict[str, Wiring] = {}
        self.refs: dict[str, NodeRef] = {}
        self.agenda = Agenda(self.feeders, self.is_output, self.is_async)
        self.values = Values(self.find)
        self.shown: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}  # ui and meta of results that have one
        self.inner: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}  # those of cached nodes' children
        self.executed: list[str] = []
        self.files_made_by: list[str] = []  # keys of results that other programs may have to take back
        self.expanded: dict[str, Expanded] = {}
        self.flights: dict[str, Flight] = {}
        self.beside = SideBySide()

    def go(self, outputs: Sequence[str]) -> RunResult:
        self.emit(RunStarted(timestamp_ms=now_ms()))
        verdict = check(self.nodes, outputs, self.tools.library, self.wiring, self.ask)
        if verdict.node_errors and not verdict.outputs:
            return self.refused(verdict)
        for node_id, text in verdict.warnings().items():
            self.emit(Warned(node=self.ref(node_id), text=text))
        outputs = verdict.outputs
        cached = self.look_up()
        self.emit(NodesCached(nodes=tuple(cached), timestamp_ms=now_ms()))
        self.values.pin(cached)
        for output in outputs:
            self.agenda.add(output)
        self.values.unpin(keep=outputs)
        end: End | None = None
        while end is None:
            end = self.step()
        self.emit(end)
        shown = {node_id: self.shown[node_id] for node_id in self.nodes if node_id in self.shown} | self.inner
        return RunResult(
            end=end,
            outputs={node_id: ui for node_id, (ui, _) in shown.items()},
            meta={node_id: meta for node_id, (_, meta) in shown.items()},
        )

    def step(self) -> End | None:
        """Does the next thing that can be done; the end of the run where there is nothing left, or something failed."""
        node_id = self.agenda.next()
        if node_id is not None:
            return self.do(self.nodes[node_id])
        if self.flights:
            return self.wait()
        waiting = self.agenda.waiting()
        if not waiting:
            return RunSucceeded(timestamp_ms=now_ms())
        refs = [self.ref(node_id) for node_id in waiting]
        blamed = next((ref for ref in refs if ref.display != ref.id), refs[0])
        return self.failed(self.nodes[blamed.id], CYCLE, {})

    # What is there already

    def look_up(self) -> dict[str, Cached]:
        """Finds what earlier runs left of this workflow; what they left besides, the cache's policy may drop."""
        tenant = self.ctx.tenant
        self.tools.objects.keep_only(tenant, {node.id: node.class_type for node in self.nodes.values()})
        self.keys = content_keys(self.workflow, self.specs, self.fingerprint, file_mark=self.tools.file_mark)
        self.tools.cache.begin(tenant, self.keys.values())
        cached = {}
        for node_id in self.workflow.nodes:
            result = self.tools.cache.find(tenant, self.keys[node_id])
            if result is not None:
                cached[node_id] = result
                self.show(node_id, result)
        return cached

    def find(self, node_id: str) -> Cached | None:
        """The result of this node or of an equal one, if the cache has it."""
        return self.tools.cache.find(self.ctx.tenant, self.keys[node_id])

    def fingerprint(self, node: Node) -> Any:
        kind = self.tools.library[node.class_type]
        if not kind.spec.fingerprinted:
            return None
        inputs = known_inputs(self.wiring(node), whole=kind.spec.input_is_list)
        ctx = self.ctx.at(self.ref(node.id))
        try:
            with calling(ctx):
                given = kind.fingerprint(inputs, ctx)
                return self.beside.value(given) if inspect.isawaitable(given) else given
        except KeyboardInterrupt:
            raise
        except BaseException:  # as in ComfyUI: a node that cannot tell is never answered from the cache
            return math.nan

    def ask(self, node: Node, kind: NodeType, inputs: dict[str, Any], types: dict[str, Any]) -> bool | str:
        """What the class's own code says of a node's inputs."""
        with calling(self.ctx.at(self.ref(node.id))):
            given = kind.check(inputs, types)
            told: bool | str = self.beside.value(given) if inspect.isawaitable(given) else given
            return told

    # The agenda's questions

    def is_output(self, node_id: str) -> bool:
        spec = self.specs.get(self.nodes[node_id].class_type)
        return spec is not None and spec.output_node

    def is_async(self, node_id: str) -> bool:
        kind = self.tools.library.get(self.nodes[node_id].class_type)
        return kind is not None and kind.is_async

    def feeders(self, node_id: str) -> Iterator[str]:
        """The nodes to run before this one. Holds what it will take from others, be it made already or not."""
        if self.values.pinned(node_id) is not None:
            return
        wiring = self.wiring(self.nodes[node_id])
        eager = set(wiring.eager())
        for source in wiring.sources():
            if source not in self.nodes:  # the node will fail by itself
                continue
            if not self.values.hold(node_id, source) and source in eager:
                yield self.to_make(source)

    def to_make(self, node_id: str) -> str:
        """A node whose result somebody needs and nobody has, be it that one has been made and is gone."""
        if self.agenda.is_done(node_id):
            self.agenda.again(node_id)
        return node_id

    # One node

    def do(self, node: Node) -> End | None:
        """Begins a node, takes its result from the cache, or ends it once what it waited for is there."""
        expanded = self.expanded.pop(node.id, None)
        try:
            if expanded is not None:
                self.end_expansion(node, expanded)
                return None
            result = self.values.pinned(node.id) or self.values.twin(self.keys[node.id]) or self.find(node.id)
            if result is not None:
                self.take(node, result)
                return None
            self.emit(NodeStarted(node=self.ref(node.id)))
        except (RunError, LookupError) as raised:
            return self.failed(node, Failure.of(raised), {})
        inputs: dict[str, Items] = {}
        try:
            self.check()
            kind = self.kind(node)
            self.gather(node, kind, inputs)
            wiring = self.wiring(node)
            instance = self.instance(node, kind)
            if wiring.lazy:
                wanted = self.wanted_sources(node, kind, instance, inputs)
                if wanted:
                    self.agenda.block(node.id, [self.to_make(source) for source in wanted])
                    return None
            given = self.call(node, kind, instance, inputs)
            if not all(isinstance(each, Result) for each in given):
                self.flights[node.id] = Flight(node, inputs, given)
                return self.land() if any(call.done() for call in self.flights[node.id].under_way()) else None
            self.returned(node, [each for each in given if isinstance(each, Result)])
        except Interrupted:
            return self.stopped(node)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # SystemExit too: a node does not end the engine
            return self.failed(node, Failure.of(raised), inputs)
        if self.flights:
            self.beside.turn()
            return self.land()
        return None

    def call(self, node: Node, kind: NodeType, instance: Any, inputs: Mapping[str, Items]) -> list[Result | Call]:
        """Calls the node for each item; what is awaited goes on side by side."""
        given: list[Result | Call] = []
        ref = self.ref(node.id)
        for index, arguments in enumerate(calls(inputs, whole=kind.spec.input_is_list)):
            self.check()
            blocker = _blocker(arguments, whole=kind.spec.input_is_list)
            if blocker is not None:
                given.append(self.blocked(node, kind, blocker))
                continue
            ctx = self.ctx.at(ref, index)
            with calling(ctx):
                returned = kind.call(arguments, ctx, instance)
                given.append(returned if isinstance(returned, Result) else self.beside.start(returned))
        return given

    def blocked(self, node: Node, kind: NodeType, blocker: ExecutionBlocker) -> Result:
        """The result of a call that is left out. A message is told once, at the first node that it blocks."""
        if blocker.message is not None:
            told = NodeBlocked(
                node=self.ref(node.id),
                node_type=node.class_type,
                message=str(blocker.message),
                executed=tuple(self.executed),
            )
            self.emit(told)
        return Result(values=(ExecutionBlocker(None),) * len(kind.spec.outputs))

    def wanted_sources(self, node: Node, kind: NodeType, instance: Any, inputs: Mapping[str, Items]) -> list[str]:
        """The nodes behind lazy inputs that the node wants and that are not done."""
        ctx = self.ctx.at(self.ref(node.id))
        with calling(ctx):

            def ask(arguments: Mapping[str, Any]) -> Any:
                answer = kind.wanted(arguments, ctx, instance)
                return self.beside.value(answer) if inspect.isawaitable(answer) else answer

            wiring = self.wiring(node)
            unmade = {name for name in wiring.lazy if wiring.links[name].node_id not in self.values}
            names = missing_lazy(wiring, inputs, unmade, ask, whole=kind.spec.input_is_list)
        return [wiring.links[name].node_id for name in names]

    def returned(self, node: Node, results: Sequence[Result]) -> None:
        """All calls of a node are done: its result is kept, or the graph that runs in its place is begun."""
        ui = joined_ui(results)
        if ui is not None:
            check_shown(ui)
            self.emit(NodeOutput(node=self.ref(node.id), ui=ui))
        if any(each.expand is not None for each in results):
            self.begin_expansion(node, results, ui)
        else:
            self.finish(node, joined(results, self.specs[node.class_type].outputs), ui)

    def wait(self) -> End | None:
        """Until an async call is done. An interrupt is heard meanwhile."""
        try:
            self.check()
        except Interrupted:
            return self.stopped(next(iter(self.flights.values())).node)
        self.beside.wait([call for flight in self.flights.values() for call in flight.under_way()], POLL_SECONDS)
        return self.land()

    def land(self) -> End | None:
        """Ends the nodes whose async calls are all done. Gives the end of the run where one of them failed."""
        for flight in list(self.flights.values()):
            try:
                flight.given = [
                    value_of(each) if not isinstance(each, Result) and each.done() else each for each in flight.given
                ]
                if flight.under_way():
                    continue
                del self.flights[flight.node.id]
                self.returned(flight.node, [each for each in flight.given if isinstance(each, Result)])
            except Interrupted:
                return self.stopped(flight.node)
            except KeyboardInterrupt:
                raise
            except BaseException as raised:
                return self.failed(flight.node, Failure.of(raised), flight.inputs)
        return None

    # Expansion

    def begin_expansion(self, node: Node, results: Sequence[Result], ui: dict[str, list[Any]] | None) -> None:
        """Puts the graph that a node returned on the agenda; the node waits for it."""
        dynprompt = self.ctx.dynprompt
        children = read_graphs(results, node.id, dynprompt)
        self.nodes.update(children)
        self.keys |= content_keys(
            Workflow(children),
            self.specs,
            self.fingerprint,
            file_mark=self.tools.file_mark,
            known=self.keys,
            under=self.keys[node.id],
        )
        links = tuple(links_of(results))
        for link in links:
            if link.node_id not in self.nodes:
                raise RunError(f"what node {node.id} returned links to node {link.node_id}, which does not exist")
        self.expanded[node.id] = Expanded(results, ui, tuple(children), links)
        needed = [link.node_id for link in links if not self.values.hold(node.id, link.node_id)]
        needed += [child for child in children if self.is_output(child)]
        self.agenda.block(node.id, [self.to_make(each) for each in needed])

    def end_expansion(self, node: Node, expanded: Expanded) -> None:
        """The graph in the node's place is done."""
        slots = resolved(expanded, self.specs[node.class_type].outputs, lambda link: self.items(link, "an output"))
        self.finish(node, slots, expanded.ui, children=expanded.children)

    # Results

    def take(self, node: Node, result: Cached) -> None:
        """Ends a node with a result that is there already."""
        ref = self.ref(node.id)
        self.values.keep(node.id, self.keys[node.id], result)
        self.show(node.id, result)
        if result.ui:
            self.emit(NodeOutput(node=ref, ui=result.ui, cached=True))
        self.emit(NodeFinished(node=ref, cached=True))
        self.values.release(node.id)
        self.agenda.finish(node.id)

    def finish(
        self, node: Node, slots: Slots, ui: dict[str, list[Any]] | None, *, children: Sequence[str] = ()
    ) -> None:
        ref = self.ref(node.id)
        result = Cached(values=slots, ui=ui, meta=meta_of(ref), inner=shown_within(children, self.shown))
        under = "" if ref.real == ref.id else self.keys[ref.real]
        self.tools.cache.put(self.ctx.tenant, self.keys[node.id], result, under=under)
        self.values.keep(node.id, self.keys[node.id], result)
        self.show(node.id, result)
        self.executed.append(node.id)
        if ui or children or self.is_output(node.id):
            self.files_made_by.append(self.keys[node.id])
        self.emit(NodeFinished(node=ref))
        self.values.release(node.id)
        self.agenda.finish(node.id)

    def show(self, node_id: str, result: Cached) -> None:
        if result.ui:
            self.shown[node_id] = (result.ui, result.meta)
        self.inner.update(result.inner)

    def let_go(self) -> None:
        """Ends what still goes on and drops all values: large ones must not wait for the collector."""
        self.beside.close(call for flight in self.flights.values() for call in flight.under_way())
        self.values.clear()
        self.flights.clear()
        self.expanded.clear()

    # Inputs

    def wiring(self, node: Node) -> Wiring:
        found = self.wirings.get(node.id)
        if found is None:
            found = self.wirings[node.id] = Wiring.of(node, self.tools.library.get(node.class_type))
        return found

    def gather(self, node: Node, kind: NodeType, into: dict[str, Items]) -> None:
        """The arguments of a node: declared inputs in the workflow's order, then what the engine fills in."""
        wiring = self.wiring(node)
        for name in wiring.order:
            link = wiring.links.get(name)
            if link is None:
                into[name] = [wiring.literals[name]]
            elif name in wiring.raw:
                into[name] = [[link.node_id, link.slot]]
            elif name in wiring.lazy and link.node_id in self.nodes and link.node_id not in self.values:
                into[name] = [None]
            else:
                into[name] = self.items(link, f"input {name}")
        for name, wanted in kind.spec.hidden.items():
            value = hidden_value(
                wanted,
                node_id=node.id,
                dynprompt=self.ctx.dynprompt,
                extra_pnginfo=self.ctx.extra_pnginfo,
            )
            if value is not None or name not in into:  # a pack's own hidden input has what the workflow gives it
                into[name] = [value]

    def items(self, link: Link, who: str) -> Items:
        """What comes by a link. Raises RunError where there is nothing of the kind."""
        slots = self.values.slots(link.node_id)
        if slots is None or not 0 <= link.slot < len(slots):
            raise RunError(f"{who} links to output {link.slot} of node {link.node_id}, which does not exist")
        return slots[link.slot]

    def kind(self, node: Node) -> NodeType:
        if node.class_type not in self.tools.library:
            raise RunError(f"this worker has no node {node.class_type}")
        return self.tools.library[node.class_type]

    def instance(self, node: Node, kind: NodeType) -> Any:
        real = self.ref(node.id).real
        return self.tools.objects.get(self.ctx.tenant, node.id, node.class_type, real=real, make=kind.instance)

    def ref(self, node_id: str) -> NodeRef:
        found = self.refs.get(node_id)
        if found is None:
            dynprompt = self.ctx.dynprompt
            parent = dynprompt.get_parent_node_id(node_id)
            found = self.refs[node_id] = ref_of(node_id, dynprompt, None if parent is None else self.ref(parent))
        return found

    # Ends

    def check(self) -> None:
        if self.interrupted():
            raise Interrupted("the run was asked to stop")

    def stopped(self, node: Node) -> RunInterrupted:
        return RunInterrupted(
            node=self.ref(node.id), node_type=node.class_type, executed=tuple(self.executed), timestamp_ms=now_ms()
        )

    def refused(self, verdict: Verdict) -> RunResult:
        """No output may run, by what nodes say of their own inputs."""
        node = self.nodes[next(iter(verdict.node_errors))]
        end = failed(self.ref(node.id), node.class_type, verdict.failure(), nodes=self.nodes, refusal=verdict.refusal())
        self.emit(end)
        return RunResult(end=end)

    def failed(self, node: Node, failure: Failure, inputs: Mapping[str, Items]) -> End:
        ref = self.ref(node.id)
        return failed(ref, node.class_type, failure, inputs=inputs, nodes=self.nodes, executed=self.executed)


def _blocker(arguments: Mapping[str, Any], *, whole: bool) -> ExecutionBlocker | None:
    """The blocker among a call's inputs; where lists come whole, one anywhere in them blocks the call."""
    if not whole:
        return first_blocker(arguments.values())
    return first_blocker(item for items in arguments.values() for item in items)
