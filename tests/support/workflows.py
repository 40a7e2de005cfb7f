"""Workflows good and bad, as hypothesis makes them: of toy nodes, and of any JSON at all."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from limner.graph.spec import InputSpec
from tests.support import toys

CLASSES = toys.catalogue().filled

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)
node_ids = st.sampled_from(["1", "2", "3", "4"])
links = st.tuples(node_ids, st.integers(-1, 2) | json_values).map(list)
class_types = st.sampled_from([*CLASSES, "Nope"]) | json_values
input_names = st.sampled_from(sorted({name for spec in CLASSES.values() for name in spec.input}))
inputs = st.dictionaries(
    input_names, links | json_values | st.builds(lambda v: {"__value__": v}, json_values), max_size=6
)
nodes = st.fixed_dictionaries(
    {"class_type": class_types, "inputs": inputs | json_values}, optional={"_meta": json_values}
)

any_workflows = json_values | st.dictionaries(node_ids, nodes | json_values, max_size=4)
"""Anything that a caller may send."""

GOOD = {"INT": 1, "FLOAT": 0.5, "STRING": "ok", "BOOLEAN": True}


@st.composite
def likely_workflows(draw: st.DrawFn) -> dict[str, Any]:
    """Nodes of known classes with mostly fitting inputs: about half of these are accepted."""
    workflow: dict[str, Any] = {}
    for number in range(draw(st.integers(0, 4))):
        class_type = draw(st.sampled_from(sorted(CLASSES)))
        filled = {spec.name: draw(_fitting(spec, workflow)) for spec in CLASSES[class_type].input.values()}
        if draw(st.integers(0, 5)) == 0:
            filled[draw(input_names)] = draw(links | json_values)
        workflow[str(number)] = {"class_type": class_type, "inputs": filled}
    links_to_all: list[Any] = [[node_id, 0] for node_id in workflow]
    shown = draw(st.sampled_from(links_to_all or [1]))
    return {**workflow, "show": {"class_type": "ApShow", "inputs": {"v": shown}}}


def _fitting(spec: InputSpec, workflow: dict[str, Any]) -> st.SearchStrategy[Any]:
    fitting: list[Any] = [
        [node_id, slot]
        for node_id, node in workflow.items()
        for slot, output in enumerate(CLASSES[node["class_type"]].outputs)
        if spec.any_type or output.type == spec.type
    ]
    literal = (spec.choices or ["a.png"])[0] if isinstance(spec.type, list) else GOOD.get(spec.type, 1)
    return st.sampled_from([*fitting, literal])
