"""Workflows good and bad, as hypothesis makes them: of toy nodes, and of any JSON at all."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.support import toys

CLASSES = toys.catalogue().nodes

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

likely_workflows: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    node_ids,
    st.fixed_dictionaries({"class_type": st.sampled_from(sorted(CLASSES)), "inputs": inputs}),
    min_size=1,
    max_size=4,
)
"""Nodes of known classes, so that some of these are accepted."""
