"""Calls of nodes: one for each item of their lists, some of which go on while other nodes run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limner.engine.blocker import ExecutionBlocker, first_blocker
from limner.engine.context import calling
from limner.engine.mapping import Items, calls
from limner.engine.scene import Scene
from limner.engine.side_by_side import POLL_SECONDS, Call, SideBySide, value_of
from limner.graph.kinds import NodeType, Result
from limner.graph.workflow import Node

OnBlocked = Callable[[Node, str], None]


@dataclass(slots=True)
class Flight:
    """A node whose calls were made. `given`: the result of each that is done, or what is still awaited."""

    node: Node
    inputs: dict[str, Items]
    given: Sequence[Result | Call]

    @property
    def under_way(self) -> list[Call]:
        return [each for each in self.given if not isinstance(each, Result)]

    @property
    def results(self) -> list[Result]:
        return [each for each in self.given if isinstance(each, Result)]

    def look(self) -> bool:
        """Takes the results of calls that have ended; whether all have. Raises what one of them raised."""
        self.given = [value_of(each) if not isinstance(each, Result) and each.done() else each for each in self.given]
        return not self.under_way


class Flights:
    """The nodes of one run whose calls go on, in the order in which they began."""

    def __init__(self, scene: Scene, beside: SideBySide, on_blocked: OnBlocked) -> None:
        self._scene = scene
        self._beside = beside
        self._on_blocked = on_blocked
        self._flights: dict[str, Flight] = {}

    def __bool__(self) -> bool:
        return bool(self._flights)

    def __iter__(self) -> Iterator[Flight]:
        return iter(list(self._flights.values()))

    def begin(self, node: Node, kind: NodeType, instance: Any, inputs: dict[str, Items]) -> Flight:
        """Makes all calls of a node; the flight is kept here if some of them are awaited."""
        flight = Flight(node, inputs, self._call(node, kind, instance, inputs))
        if flight.under_way:
            self._flights[node.id] = flight
        return flight

    def end(self, flight: Flight) -> None:
        self._flights.pop(flight.node.id, None)

    def turn(self) -> None:
        """Lets what goes on go on, without waiting."""
        self._beside.turn()

    def wait(self) -> None:
        """Until a call is done, or a short time is over."""
        self._beside.wait([call for flight in self._flights.values() for call in flight.under_way], POLL_SECONDS)

    def clear(self) -> None:
        self._flights.clear()

    def _call(self, node: Node, kind: NodeType, instance: Any, inputs: Mapping[str, Items]) -> list[Result | Call]:
        given: list[Result | Call] = []
        ref = self._scene.ref(node.id)
        whole = kind.spec.input_is_list
        for index, arguments in enumerate(calls(inputs, whole=whole)):
            self._scene.ctx.check()
            blocker = _blocker(arguments, whole=whole)
            if blocker is not None:
                if blocker.message is not None:  # told once, at the first node that it blocks
                    self._on_blocked(node, str(blocker.message))
                given.append(Result(values=(ExecutionBlocker(None),) * len(kind.spec.outputs)))
                continue
            ctx = self._scene.ctx.at(ref, index)
            with calling(ctx):
                returned = kind.call(arguments, ctx, instance)
                given.append(returned if isinstance(returned, Result) else self._beside.start(returned))
        return given


def _blocker(arguments: Mapping[str, Any], *, whole: bool) -> ExecutionBlocker | None:
    """The blocker among a call's inputs; where lists come whole, one anywhere in them blocks the call."""
    if not whole:
        return first_blocker(arguments.values())
    return first_blocker(item for items in arguments.values() for item in items)
