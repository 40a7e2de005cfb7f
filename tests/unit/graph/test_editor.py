"""The editor's save format into the API format: hand-made saves for each rule, the editor's own templates for all."""

from __future__ import annotations

import gzip
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from limner.errors import WorkflowInvalid
from limner.graph.catalogue import Catalogue
from limner.graph.editor import convert
from limner.graph.spec import InputSpec, NodeSpec
from limner.graph.validate import validate

RECORDED = json.loads(gzip.decompress((Path(__file__).parents[2] / "data/comfyui_object_info.json.gz").read_bytes()))
SPECS = {name: NodeSpec.from_json(info) for name, info in RECORDED.items()}
SUBGRAPH = "9f6cf0c0-0000-4000-8000-000000000001"


class Saver:
    """Puts a save together as the editor writes it."""

    def __init__(self) -> None:
        self.boxes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []

    def box(
        self,
        number: int,
        kind: str,
        *values: Any,
        outputs: str = "",
        mode: int = 0,
        values_raw: Any = None,
        **fed_by: tuple[int, int, str],
    ) -> Saver:
        """fed_by: input name to (box, slot, type). A name that ends in _w stands for a widget made a socket."""
        inputs = []
        for slot, (name, (origin, origin_slot, type_)) in enumerate(fed_by.items()):
            link = len(self.links) + 1
            self.links.append([link, origin, origin_slot, number, slot, type_])
            socket: dict[str, Any] = {"name": name.removesuffix("_w"), "type": type_, "link": link}
            if name.endswith("_w"):
                socket["widget"] = {"name": name.removesuffix("_w")}
            inputs.append(socket)
        self.boxes.append({
            "id": number, "type": kind, "mode": mode, "inputs": inputs, "properties": {},
            "outputs": [{"name": each, "type": each} for each in outputs.split()],
            "widgets_values": list(values) if values_raw is None else values_raw,
        })  # fmt: skip
        return self

    def save(self, **more: Any) -> dict[str, Any]:
        return {"nodes": self.boxes, "links": self.links, "last_node_id": 99, "version": 0.4, **more}


def converted(save: dict[str, Any]) -> dict[str, Any]:
    workflow = convert(save, SPECS.get).checked()
    return {node_id: node["inputs"] for node_id, node in workflow.items()}


def picture(saver: Saver, number: int = 1) -> Saver:
    return saver.box(number, "EmptyImage", 64, 32, 2, 255, outputs="IMAGE")


def test_widgets_get_their_names_and_the_box_behind_a_seed_is_left_out() -> None:
    saver = Saver().box(3, "KSampler", 42, "randomize", 20, 7.5, "euler", "normal", 1)
    assert converted(saver.save()) == {
        "3": {"seed": 42, "steps": 20, "cfg": 7.5, "sampler_name": "euler", "scheduler": "normal", "denoise": 1}
    }


def test_a_seed_saved_before_that_box_existed_is_read_too() -> None:
    saver = Saver().box(3, "KSampler", 42, 20, 7.5, "euler", "normal", 1)
    assert converted(saver.save())["3"]["steps"] == 20


def test_links_and_titles_come_over() -> None:
    saver = picture(Saver()).box(2, "SaveImage", "out", images=(1, 0, "IMAGE"))
    saver.boxes[1]["title"] = "The last one"
    workflow = convert(saver.save(), SPECS.get).checked()
    assert workflow["2"] == {
        "inputs": {"images": ["1", 0], "filename_prefix": "out"},
        "class_type": "SaveImage",
        "_meta": {"title": "The last one"},
    }


def test_a_widget_made_a_socket_takes_its_link_and_keeps_its_place_in_the_row() -> None:
    saver = Saver().box(1, "PrimitiveInt", 7, "fixed", outputs="INT")
    saver.box(2, "EmptyImage", 64, 32, 2, 255, outputs="IMAGE", height_w=(1, 0, "INT"))
    assert converted(saver.save())["2"] == {"width": 64, "height": ["1", 0], "batch_size": 2, "color": 255}


def test_reroutes_are_walked_through_and_primitives_become_values() -> None:
    saver = picture(Saver())
    saver.box(2, "Reroute", outputs="IMAGE", **{"": (1, 0, "*")}).box(
        3, "Reroute", outputs="IMAGE", **{"": (2, 0, "*")}
    )
    saver.box(4, "PrimitiveNode", "named", outputs="STRING")
    saver.box(5, "SaveImage", "", images=(3, 0, "IMAGE"), filename_prefix_w=(4, 0, "STRING"))
    assert converted(saver.save())["5"] == {"images": ["1", 0], "filename_prefix": "named"}


def test_a_muted_node_is_gone_and_so_are_its_links() -> None:
    saver = picture(Saver()).box(2, "ImageInvert", outputs="IMAGE", mode=2, image=(1, 0, "IMAGE"))
    saver.box(3, "SaveImage", "x", images=(2, 0, "IMAGE"))
    assert converted(saver.save()) == {
        "1": {"width": 64, "height": 32, "batch_size": 2, "color": 255},
        "3": {"filename_prefix": "x"},
    }


def test_a_bypassed_node_hands_on_the_input_of_its_outputs_type() -> None:
    saver = Saver().box(1, "CheckpointLoaderSimple", "a.safetensors", outputs="MODEL CLIP VAE")
    saver.box(2, "LoraLoader", "b", 1, 1, outputs="MODEL CLIP", mode=4, model=(1, 0, "MODEL"), clip=(1, 1, "CLIP"))
    saver.box(3, "CLIPTextEncode", "a cat", outputs="CONDITIONING", clip=(2, 1, "CLIP"))
    assert converted(saver.save())["3"] == {"text": "a cat", "clip": ["1", 1]}


def test_set_and_get_nodes_meet_under_their_name() -> None:
    saver = picture(Saver()).box(2, "SetNode", "picture", outputs="IMAGE", IMAGE=(1, 0, "IMAGE"))
    saver.box(3, "GetNode", "picture", outputs="IMAGE").box(4, "SaveImage", "x", images=(3, 0, "IMAGE"))
    assert converted(saver.save())["4"]["images"] == ["1", 0]


def test_reroutes_in_a_circle_feed_nothing() -> None:
    saver = (
        Saver().box(1, "Reroute", outputs="*", **{"": (2, 0, "*")}).box(2, "Reroute", outputs="*", **{"": (1, 0, "*")})
    )
    saver.box(3, "SaveImage", "x", images=(2, 0, "IMAGE"))
    assert converted(saver.save()) == {"3": {"filename_prefix": "x"}}


def subgraph(**facts: Any) -> dict[str, Any]:
    """A picture of a width that is told from outside, inverted; the inverted one goes out."""
    inner = Saver().box(1, "EmptyImage", 64, 32, 2, 255, outputs="IMAGE", width_w=(-10, 0, "INT"))
    inner.box(2, "ImageInvert", outputs="IMAGE", image=(1, 0, "IMAGE"))
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [dict(zip(keys, link, strict=True)) for link in [*inner.links, [9, 2, 0, -20, 0, "IMAGE"]]]
    return {
        "id": SUBGRAPH, "name": "Inverted", "nodes": inner.boxes, "links": links,
        "inputs": [{"name": "width", "type": "INT"}], "outputs": [{"name": "IMAGE", "type": "IMAGE"}], **facts,
    }  # fmt: skip


def test_a_subgraph_is_opened_and_its_own_widgets_reach_the_inner_nodes() -> None:
    saver = Saver().box(5, SUBGRAPH, 128, outputs="IMAGE").box(6, "SaveImage", "x", images=(5, 0, "IMAGE"))
    assert converted(saver.save(definitions={"subgraphs": [subgraph()]})) == {
        "5:1": {"width": 128, "height": 32, "batch_size": 2, "color": 255},
        "5:2": {"image": ["5:1", 0]},
        "6": {"images": ["5:2", 0], "filename_prefix": "x"},
    }


def test_a_link_into_a_subgraph_wins_over_its_widget() -> None:
    saver = Saver().box(1, "PrimitiveInt", 7, outputs="INT")
    saver.box(5, SUBGRAPH, 128, outputs="IMAGE", width_w=(1, 0, "INT"))
    assert converted(saver.save(definitions={"subgraphs": [subgraph()]}))["5:1"]["width"] == ["1", 0]


def test_a_muted_subgraph_takes_all_that_is_in_it_along() -> None:
    saver = Saver().box(5, SUBGRAPH, 128, outputs="IMAGE", mode=2).box(6, "SaveImage", "x", images=(5, 0, "IMAGE"))
    assert converted(saver.save(definitions={"subgraphs": [subgraph()]})) == {"6": {"filename_prefix": "x"}}


def test_a_subgraph_that_holds_itself_is_told() -> None:
    endless = subgraph(nodes=[*subgraph()["nodes"], *Saver().box(3, SUBGRAPH).boxes])
    with pytest.raises(WorkflowInvalid, match="without end"):
        converted(Saver().box(5, SUBGRAPH).save(definitions={"subgraphs": [endless]}))


def test_a_list_as_a_value_is_not_taken_for_a_link() -> None:
    many = InputSpec(name="chosen", type="COMBO", options={"multiselect": True, "options": ["a", "b"]})
    spec = NodeSpec(name="Many", display_name=None, category="x", inputs=(many,))
    save = Saver().box(1, "Many", ["a", "b"]).save()
    assert convert(save, {"Many": spec}.get).workflow["1"]["inputs"] == {"chosen": {"__value__": ["a", "b"]}}


def test_every_node_that_cannot_be_converted_is_told_at_once() -> None:
    saver = picture(Saver()).box(2, "NoSuchNode", 1).box(3, "KSampler", "euler", "normal")
    with pytest.raises(WorkflowInvalid) as caught:
        converted(saver.save())
    lines = caught.value.message.splitlines()
    assert lines[0] == "The saved workflow cannot be converted because of 2 of its nodes:"
    assert lines[1].startswith("  node 2 (NoSuchNode): this class is not in the catalogue")
    assert lines[2].startswith("  node 3 (KSampler): its seed would be 'euler'")


def test_notes_and_switchboards_of_the_browser_are_left_out() -> None:
    saver = Saver().box(1, "Note", "hello").box(2, "MarkdownNote", "# hello").box(3, "Fast Groups Muter (rgthree)")
    assert converted(saver.save()) == {}


@pytest.mark.parametrize(
    "broken",
    [{"nodes": [1]}, {"nodes": [{"type": "X"}]}, {"nodes": [], "links": [[1, 2]]}, {"nodes": [], "definitions": 3}],
)
def test_a_damaged_save_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(WorkflowInvalid, match="The saved workflow is damaged"):
        convert({"links": [], **broken}, SPECS.get)


def templates() -> list[tuple[str, dict[str, Any]]]:
    folder = resources.files("comfyui_workflow_templates_json")
    files = sorted((each for each in folder.joinpath("templates").iterdir()), key=lambda each: each.name)
    saves = ((file.name, json.loads(file.read_text(encoding="utf-8"))) for file in files if file.name.endswith(".json"))
    return [(name, save) for name, save in saves if isinstance(save, dict) and "nodes" in save]


def test_the_editors_own_templates_convert_but_for_classes_that_are_not_known() -> None:
    """Of the 640 and more: what is left of faults is a file that is not here, or a class that is newer."""
    converted_whole = 0
    for name, save in templates():
        conversion = convert(save, SPECS.get)
        reasons = {each.reason for each in conversion.problems if "not in the catalogue" not in each.reason}
        assert all("another version of the class" in reason for reason in reasons), (name, reasons)
        if conversion.problems:
            continue
        converted_whole += 1
        try:
            node_errors = validate(conversion.workflow, Catalogue(nodes=SPECS)).node_errors
        except WorkflowInvalid as invalid:
            node_errors = invalid.node_errors
        types = {error["type"] for node in node_errors.values() for error in node["errors"]}
        assert types <= {"value_not_in_list", "custom_validation_failed", "return_type_mismatch"}, (name, node_errors)
    assert converted_whole > 60
