"""The catalogue of a pool whose workers differ: it takes what any of them takes, whoever came first."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.errors import WorkflowInvalid
from limner.graph.catalogue import Catalogue
from limner.graph.object_info import catalogue_of
from limner.graph.spec import InputSpec
from limner.graph.validate import validate
from tests.support import comfyui_nodes, toys
from tests.support.workflows import likely_workflows

TOYS = toys.catalogue()
COMFYUI = comfyui_nodes.catalogue()


def server(
    required: dict[str, Any] | None = None,
    *,
    optional: dict[str, Any] | None = None,
    models: dict[str, list[str]] | None = None,
    module: str = "nodes",
    **entry: Any,
) -> Catalogue:
    """A ComfyUI with one class, X."""
    sections = {"required": required or {}, "optional": optional or {}}
    told = {"input": sections, "python_module": module, "output_node": True, "output": [], **entry}
    return catalogue_of({"X": told}, models or {})


def both(first: Catalogue, second: Catalogue) -> dict[str, InputSpec]:
    merged = Catalogue.merged([first, second])
    assert merged.digest == Catalogue.merged([second, first]).digest
    return dict(merged.filled["X"].input)


def test_one_catalogue_alone_stays_as_it_is() -> None:
    assert Catalogue.merged([TOYS]) is TOYS
    back = Catalogue.from_json(json.loads(json.dumps(TOYS.to_json())))
    assert Catalogue.merged([TOYS, back]) is TOYS


def test_none_at_all_is_an_empty_one() -> None:
    assert Catalogue.merged([]) == Catalogue(nodes={})


def test_it_has_all_nodes_and_all_models() -> None:
    merged = Catalogue.merged([server(models={"loras": ["b"], "vae": ["v"]}), COMFYUI, server(models={"loras": ["a"]})])
    assert merged.nodes.keys() == {*COMFYUI.nodes, "X"}
    assert merged.models["loras"] == ("a", "b")
    assert merged.models["vae"] == ("v",)
    assert merged.nodes["KSampler"] == COMFYUI.nodes["KSampler"]


def test_it_does_not_depend_on_who_came_first() -> None:
    three = [COMFYUI, TOYS, server({"a": ["INT"]}, models={"loras": ["z", "y"]})]
    assert len({Catalogue.merged(each).digest for each in permutations(three)}) == 1


def test_it_survives_as_data() -> None:
    merged = Catalogue.merged([COMFYUI, TOYS, Catalogue.core()])
    back = Catalogue.from_json(json.loads(json.dumps(merged.to_json(), allow_nan=False)))
    assert (back.nodes, back.digest) == (merged.nodes, merged.digest)


def test_a_box_offers_what_any_offers() -> None:
    assert both(server({"a": [["x", "y"]]}), server({"a": [["y", "z"]]}))["a"].choices in (
        ["x", "y", "z"],
        ["y", "z", "x"],
    )
    newer = both(server({"a": ["COMBO", {"options": ["x"]}]}), server({"a": [["z"]]}))["a"]
    assert sorted(newer.choices or []) == ["x", "z"]
    assert not newer.any_type


def test_a_loader_offers_the_files_of_all_and_the_words_of_each() -> None:
    one = server({"lora_name": [["None", "a"]]}, models={"loras": ["a"]})
    other = server({"lora_name": [["b", "all"]]}, models={"loras": ["b"]})
    merged = both(one, other)["lora_name"]
    assert (merged.folder, merged.choices) == ("loras", ["None", "a", "b", "all"])


def test_a_loader_that_finds_nothing_yet_is_one_all_the_same() -> None:
    found = both(server({"x": [["a"]]}, models={"loras": ["a"]}), server({"x": [[]]}, models={"loras": []}))["x"]
    assert (found.folder, found.choices) == ("loras", ["a"])


def test_limits_are_the_widest() -> None:
    merged = both(server({"a": ["INT", {"min": 0, "max": 5}]}), server({"a": ["INT", {"min": -1, "max": 3}]}))["a"]
    assert (merged.options["min"], merged.options["max"]) == (-1, 5)
    assert "max" not in both(server({"a": ["INT", {"max": 5}]}), server({"a": ["INT"]}))["a"].options


@pytest.mark.parametrize("other", [server(), server(optional={"a": ["INT"]})])
def test_what_one_can_do_without_is_optional(other: Catalogue) -> None:
    assert both(server({"a": ["INT"]}), other)["a"].kind == "optional"


def test_an_input_of_two_types_takes_both() -> None:
    merged = Catalogue.merged([server({"a": ["INT"]}), server({"a": ["FLOAT"]})])
    assert merged.nodes["X"].input["a"].any_type


def test_outputs_are_those_of_the_one_with_the_most() -> None:
    one, other = server(output=["IMAGE"]), server(output=["IMAGE", "MASK"])
    changed = Catalogue.merged([one, server(output=["LATENT"])])
    assert [each.type for each in Catalogue.merged([one, other]).nodes["X"].outputs] == ["IMAGE", "MASK"]
    assert not Catalogue.merged([one, other]).nodes["X"].outputs[0].any_type
    assert changed.nodes["X"].outputs[0].any_type


def test_a_packs_class_beside_a_core_class_of_the_name_is_checked_as_a_packs() -> None:
    merged = Catalogue.merged([server(), server(module="custom_nodes.x")])
    assert merged.nodes["X"].lenient


def test_an_own_class_beside_a_comfyuis_is_checked_as_the_comfyui_does() -> None:
    merged = Catalogue.merged([Catalogue.core(), COMFYUI])
    assert merged.nodes["KSampler"].foreign
    assert merged.nodes["LoadImage"].input["image"].upload == "image"
    assert merged.nodes["CheckpointLoaderSimple"].input["ckpt_name"].folder == "checkpoints"


@settings(max_examples=200, deadline=None)
@given(prompt=likely_workflows())
def test_what_one_worker_takes_the_pool_takes(prompt: Any) -> None:
    pool = Catalogue.merged([COMFYUI, TOYS])
    for each in (COMFYUI, TOYS):
        try:
            alone = validate(prompt, each, input_files=["a.png"])
        except WorkflowInvalid:
            continue
        assert set(validate(prompt, pool, input_files=["a.png"]).outputs) >= set(alone.outputs)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(
            server,
            st.dictionaries(
                st.sampled_from("ab"),
                st.sampled_from(
                    [["INT"], ["INT", {"min": 1}], [["x"]], ["COMBO", {"options": [1]}], [["f"], {"upload": True}]]
                ),
            ),
            models=st.sampled_from([None, {"loras": ["x"]}]),
            output=st.sampled_from([[], ["INT"], [["x"]]]),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_catalogues_can_be_merged_and_kept(catalogues: list[Catalogue]) -> None:
    merged = Catalogue.merged(catalogues)
    back = Catalogue.from_json(json.loads(json.dumps(merged.to_json())))
    assert (back.nodes, back.digest) == (merged.nodes, merged.digest)
    assert merged.digest == Catalogue.merged(catalogues[::-1]).digest
