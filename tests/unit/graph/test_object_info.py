"""A ComfyUI's /object_info as a catalogue: nothing lost of the recorded one, and nothing broken by a careless pack."""

from __future__ import annotations

import json
import random
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.graph.catalogue import Catalogue
from limner.graph.object_info import catalogue_of, spec_of
from limner.graph.sharing import SHARED_FROM
from limner.graph.spec import NodeSpec
from tests.support import comfyui_nodes
from tests.support.comfyui_nodes import MODELS
from tests.support.workflows import json_values

RECORDED = comfyui_nodes.core()
CORE = catalogue_of(RECORDED, MODELS)


def read(entry: Any, models: dict[str, list[str]] | None = None) -> NodeSpec:
    spec = catalogue_of({"X": entry}, models or {}).nodes["X"]
    back = Catalogue.from_json(json.loads(json.dumps(Catalogue({"X": spec}).to_json(), allow_nan=False)))
    assert back.nodes["X"] == spec
    return spec


def boxes(*choices: Any, **options: Any) -> dict[str, Any]:
    return {"input": {"required": {"a": [list(choices), options] if options else [list(choices)]}}}


def test_every_recorded_entry_is_shown_again_as_it_was() -> None:
    shown = catalogue_of(RECORDED, {folder: [] for folder in MODELS}).object_info()
    for name, entry in RECORDED.items():
        told = dict(shown[name])
        for left_out_of_the_recording in ("description", "output_tooltips"):
            told.pop(left_out_of_the_recording, None)
        assert told == entry, name
        assert list(told["input"]) == list(entry["input"])


def test_it_survives_as_data_and_keeps_its_digest() -> None:
    back = Catalogue.from_json(json.loads(json.dumps(CORE.to_json(), allow_nan=False)))
    assert back.nodes == CORE.nodes
    assert back.digest == CORE.digest
    assert all(spec.foreign for spec in back.nodes.values())


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, list):
        return [shuffled(each, chance) for each in value]
    if not isinstance(value, dict):
        return value
    keys = list(value)
    chance.shuffle(keys)
    return {key: shuffled(value[key], chance) for key in keys}


def test_its_digest_does_not_change_with_the_order_of_keys() -> None:
    other = shuffled(RECORDED, random.Random(1))
    again = catalogue_of(other, shuffled(MODELS, random.Random(2)))
    assert again.digest == CORE.digest
    assert list(again.nodes["KSampler"].input) == list(CORE.nodes["KSampler"].input)


def test_its_digest_does_not_change_with_files_in_the_input_folder() -> None:
    other = comfyui_nodes.core()
    hidden = f"limner/{32 * 'a'}"
    other["LoadImage"]["input"]["required"]["image"][0] = ["example.png", "limner_" + 32 * "b" + "_x.png"]
    other["LoadVideo"]["input"]["required"]["file"][1]["options"] = ["a.mp4"]
    other["LoadAudio"]["input"]["required"]["audio"] = [["a.mp3"], {"audio_upload": True, "default": "a.mp3"}]
    other["Load3D"]["input"]["required"]["model_file"][0] = [f"3d/{hidden}/a.glb", "b.glb"]
    other["LoadLatent"]["input"]["required"]["latent"][0] = [f"{hidden}/x.latent", "limner_" + 32 * "c" + "_x.latent"]
    other["LoadImageSetFromFolderNode"]["input"]["required"]["folder"][0] = ["limner", hidden.replace("/", "\\")]
    assert catalogue_of(other, MODELS).digest == CORE.digest


def test_its_digest_changes_with_models_and_with_nodes() -> None:
    more = catalogue_of(RECORDED, {**MODELS, "loras": ["a.safetensors"]})
    fewer = catalogue_of({"KSampler": RECORDED["KSampler"]}, MODELS)
    assert len({CORE.digest, more.digest, fewer.digest}) == 3


def test_a_limner_behind_limner_offers_what_it_offers_itself() -> None:
    """Its dialect is one more ComfyUI: what it shows is read as any other's answer."""
    own = Catalogue.core()
    models = {folder: list(names) for folder, names in own.models.items()}
    behind = catalogue_of(json.loads(json.dumps(own.object_info(["theirs.png"]))), models)
    assert behind.object_info(["mine.png"]) == own.object_info(["mine.png"])
    folders = [
        [(each.name, each.folder, each.upload) for spec in shown.nodes.values() for each in spec.inputs]
        for shown in (own, behind)
    ]
    assert folders[0] == folders[1]


def test_words_beside_an_upload_boxs_files_stay_and_its_files_go() -> None:
    spec = read(boxes("none", "a.png", "Default", image_upload=True, default="a.png"))
    assert (spec.input["a"].upload, spec.input["a"].first) == ("image", ("none", "Default"))
    assert spec.input["a"].options == {"image_upload": True}
    offered = Catalogue({"X": spec}).node_info("X", ["mine.png", "mine.txt"])["input"]["required"]["a"]
    assert offered == [["none", "Default", "mine.png"], {"image_upload": True}]


@pytest.mark.parametrize(
    ("option", "kind", "offered"),
    [
        ("image_upload", "image", ["a.png"]),
        ("animated_image_upload", "image", ["a.png"]),
        ("video_upload", "video", ["b.mp4"]),
        ("audio_upload", "audio", ["c.mp3"]),
        ("file_upload", "file", ["a.png", "b.mp4", "c.mp3", "d.glb"]),
        ("upload", "file", ["a.png", "b.mp4", "c.mp3", "d.glb"]),
    ],
)
@pytest.mark.parametrize("is_new", [False, True])
def test_each_upload_button_offers_its_kind_of_file(option: str, kind: str, offered: list[str], is_new: bool) -> None:
    options = {option: True}
    shown = ["COMBO", {**options, "options": ["theirs.png"]}] if is_new else [["theirs.png"], options]
    spec = read({"input": {"required": {"a": shown}}})
    assert spec.input["a"].upload == kind
    info = Catalogue({"X": spec}).node_info("X", ["a.png", "b.mp4", "c.mp3", "d.glb", "sub/e.png"])
    type_, told = info["input"]["required"]["a"]
    assert (told["options"] if is_new else type_) == offered


def test_files_that_the_browser_asks_for_itself_are_left_to_it() -> None:
    shown = RECORDED["LoadImageOutput"]["input"]["required"]["image"]
    assert CORE.node_info("LoadImageOutput", ["a.png"])["input"]["required"]["image"] == shown


FILES = {
    "checkpoints": ["a.safetensors", "sub/b.ckpt"],
    "loras": ["l.safetensors"],
    "vae": ["v.safetensors"],
    "vae_approx": [],
    "diffusion_models": ["d.safetensors"],
    "copies": ["d.safetensors"],
    "unet_gguf": ["q.gguf"],
    "clip_vision": [],
    "text_encoders": [],
}


@pytest.mark.parametrize(
    ("name", "choices", "folder", "first", "last"),
    [
        ("ckpt_name", ["sub/b.ckpt", "a.safetensors"], "checkpoints", (), ()),
        ("anything", ["a.safetensors", "sub/b.ckpt"], "checkpoints", (), ()),
        ("lora_02", ["None", "l.safetensors"], "loras", ("None",), ()),
        ("vae_name", ["v.safetensors", "taesd", "pixel_space"], "vae", (), ("taesd", "pixel_space")),
        ("unet_name", ["d.safetensors"], "diffusion_models", (), ()),
        ("other", ["d.safetensors"], "copies", (), ()),
        ("unet_name", ["q.gguf"], "unet_gguf", (), ()),
        ("clip_name2", [], "text_encoders", (), ()),
        ("clip_vision_name", ["none"], "clip_vision", ("none",), ()),
        ("ckpt_name", ["a.safetensors"], None, (), ()),  # not all of them
        ("both", ["a.safetensors", "sub/b.ckpt", "l.safetensors"], None, (), ()),
        ("mode", ["fast", "slow"], None, (), ()),
        ("mode", [], None, (), ()),
        ("vae_name", [], None, (), ()),  # there are some, and they are not offered
        ("numbers", [1, "l.safetensors"], None, (), ()),
        ("many", ["l.safetensors", *map(str, range(20))], None, (), ()),
    ],
)
@pytest.mark.parametrize("is_new", [False, True])
def test_the_model_folder_is_told_by_what_is_offered(
    name: str, choices: list[Any], folder: str | None, first: tuple[str, ...], last: tuple[str, ...], is_new: bool
) -> None:
    shown = ["COMBO", {"options": choices}] if is_new else [choices]
    spec = read({"input": {"required": {name: shown}}}, FILES)
    got = spec.input[name]
    assert (got.folder, got.first, got.last) == (folder, first, last)
    filled = Catalogue({"X": spec}, {each: tuple(sorted(names)) for each, names in FILES.items()}).filled
    assert sorted(filled["X"].input[name].choices or [], key=str) == sorted(choices, key=str)


def test_recorded_loaders_find_their_folders() -> None:
    found = {
        (name, each.name): each.folder
        for name, spec in CORE.nodes.items()
        for each in spec.inputs
        if each.folder is not None
    }
    assert found["CLIPVisionLoader", "clip_name"] == "clip_vision"
    assert found["CLIPLoader", "clip_name"] == found["QuadrupleCLIPLoader", "clip_name4"] == "text_encoders"
    assert found["UpscaleModelLoader", "model_name"] == "upscale_models"
    assert found["CreateHookLora", "lora_name"] == "loras"
    assert ("KSampler", "sampler_name") not in found


NAN, INFINITY = float("nan"), float("inf")

STRANGE: dict[str, Any] = {
    "nothing at all": {},
    "null everywhere": dict.fromkeys(RECORDED["KSampler"]),
    "input is a list": {"input": [["a", "INT"]]},
    "sections are lists": {"input": {"required": ["a"], "optional": None, "hidden": "PROMPT"}},
    "spec is a text": {"input": {"required": {"a": "IMAGE"}}},
    "spec is an object": {"input": {"required": {"a": {"type": "INT"}}}},
    "spec is null": {"input": {"required": {"a": None}}},
    "spec is empty": {"input": {"required": {"a": []}}},
    "spec is a set shown as a list": {"input": {"required": {"a": [{"default": 1}, "INT"]}}},
    "type is null": {"input": {"required": {"a": [None, {}]}}},
    "type is a number": {"input": {"required": {"a": [5, {"min": 1}]}}},
    "type is an object": {"input": {"required": {"a": [{"x": 1}, {}]}}},
    "choices without their list": {"input": {"required": {"a": ["one", "two", "three"]}}},
    "choices that are no texts": boxes(1, 1.5, True, None, ["nested", {"x": [1]}], {"y": 2}),
    "choices that are no numbers": boxes(NAN, INFINITY, "a", default=NAN),
    "options are a list": {"input": {"required": {"a": ["INT", [1, 2]]}}},
    "options of options": {"input": {"required": {"a": ["INT", {"x": {"y": {"z": [1, {"w": NAN}]}}}]}}},
    "choices that are an object": {"input": {"required": {"a": ["COMBO", {"options": {"x": 1}}]}}},
    "choices that are a text": {"input": {"required": {"a": ["COMBO", {"options": "x"}]}}},
    "limits that are none": {"input": {"required": {"a": ["FLOAT", {"min": -INFINITY, "max": NAN, "step": INFINITY}]}}},
    "limits of another kind": {"input": {"required": {"a": ["INT", {"min": "0", "max": None, "default": [1]}]}}},
    "one name twice": {"input": {"required": {"a": ["INT"]}, "optional": {"a": ["FLOAT"]}, "hidden": {"a": "PROMPT"}}},
    "more sections": {"input": {"required": {"a": ["INT"]}, "tooltips": {"a": "x"}, "advanced": 5}},
    "order of other inputs": {"input": {"required": {"a": ["INT"]}}, "input_order": {"required": ["z", 5, "a", "a"]}},
    "order is no object": {"input": {"required": {"a": ["INT"]}}, "input_order": ["a"]},
    "hidden ones of all kinds": {"input": {"hidden": {"a": ["PROMPT"], "b": "UNIQUE_ID", "c": 5, "d": None, "e": []}}},
    "fewer names than outputs": {"output": ["IMAGE", "MASK"], "output_name": ["i"], "output_is_list": []},
    "more names than outputs": {"output": ["IMAGE"], "output_name": ["i", "j"], "output_is_list": [True, True]},
    "names that are no texts": {"output": ["IMAGE", "MASK"], "output_name": [None, 5], "output_is_list": ["x", 1]},
    "outputs that are no types": {"output": [None, 5, {"x": 1}, ["a", "b"], "*"]},
    "outputs without their list": {"output": "IMAGE", "output_name": "IMAGE", "output_is_list": False},
    "texts that are none": {"display_name": 5, "category": None, "description": ["x"], "python_module": 7},
    "tooltips of all kinds": {"output_tooltips": [None, "x", 5]},
    "half letters": {"display_name": "\ud800", "description": "\udfff", "input": {"required": {"\ud800": ["INT"]}}},
    "half letters in choices": boxes("\udcff.safetensors", "a"),
    "half letters in options": {"input": {"required": {"a": ["INT", {"tooltip": "\ud800", "\ud800": 1}]}}},
    "keys of newer versions": {"search_aliases": ["x"], "price_badge": {"n": NAN}, "has_intermediate_output": True},
    "a key of Limner's own": {"limner": {"flags": ["fingerprinted"], "folders": {"a": "loras"}}},
    "huge numbers": {"input": {"required": {"a": ["INT", {"max": 2**64 - 1, "default": 10**4000}]}}},
    "flags that are none": {"output_node": "yes", "deprecated": None, "experimental": 1, "api_node": []},
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_careless_packs_entry_is_read_as_far_as_it_goes(case: str) -> None:
    spec = read(STRANGE[case])
    found = catalogue_of({**RECORDED, "X": STRANGE[case]}, MODELS)
    assert found.nodes == {**CORE.nodes, "X": spec}
    text = json.dumps([found.to_json(), found.object_info(["a.png"])], allow_nan=False, ensure_ascii=False)
    text.encode()
    assert len(found.digest) == 64


def test_what_such_entries_become() -> None:
    read_ = {case: read(entry) for case, entry in STRANGE.items()}
    one = {case: spec.input["a"] for case, spec in read_.items() if "a" in spec.input}
    assert one["spec is a text"].type == "IMAGE"
    assert one["choices without their list"].type == "one"
    assert one["choices that are no texts"].choices == [1, 1.5, True, None, ["nested", {"x": [1]}], {"y": 2}]
    assert one["choices that are no numbers"].choices == [None, None, "a"]
    assert one["half letters in choices"].choices == ["a"]
    assert one["limits that are none"].options == {}
    assert one["limits of another kind"].options == {"default": [1]}
    assert one["one name twice"].type == "INT"
    assert one["huge numbers"].options == {"max": 2**64 - 1, "default": None}
    assert {one[f"type is {kind}"].any_type for kind in ("null", "a number", "an object")} == {True}
    for unreadable in ("spec is an object", "spec is null", "spec is empty"):
        assert (read_[unreadable].inputs, read_[unreadable].open_inputs) == ((), True)
    assert dict(read_["hidden ones of all kinds"].hidden) == {"a": "PROMPT", "b": "UNIQUE_ID"}
    outputs = {case: [(each.name, each.type, each.is_list) for each in spec.outputs] for case, spec in read_.items()}
    assert outputs["fewer names than outputs"] == [("i", "IMAGE", False), ("MASK", "MASK", False)]
    assert outputs["more names than outputs"] == [("i", "IMAGE", True)]
    assert outputs["outputs without their list"] == [("IMAGE", "IMAGE", False)]
    assert [each[1] for each in outputs["outputs that are no types"]] == ["*", "*", "*", ["a", "b"], "*"]
    assert read_["texts that are none"].display_name is None
    assert read_["texts that are none"].lenient
    newer = Catalogue({"X": read_["keys of newer versions"]}).node_info("X")
    assert (newer["search_aliases"], newer["price_badge"]) == (["x"], {"n": None})
    assert not read_["a key of Limner's own"].fingerprinted


@pytest.mark.parametrize("entry", [None, [], "text", 5, True])
def test_what_is_no_description_is_left_out_and_said(entry: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert spec_of("X", entry) is None
    assert catalogue_of({"X": entry, "KSampler": RECORDED["KSampler"]}, {}).nodes.keys() == {"KSampler"}
    told = capfd.readouterr()
    assert "left out" in told.out + told.err


@pytest.mark.parametrize(
    "models", [{"loras": None}, {"loras": "abc"}, {"loras": {"a": 1}}, {"loras": [5, "\udcff", "", "./"]}]
)
def test_lists_of_models_that_are_none_are_empty(models: Any) -> None:
    assert catalogue_of({}, models).models == {"loras": ()}


def test_the_packs_own_folder_is_no_folder_of_models() -> None:
    assert catalogue_of({}, {"custom_nodes": ["pack/__init__.py"], "vae": ["b", "a", "b"]}).models == {
        "vae": ("a", "b")
    }


entries = json_values | st.fixed_dictionaries(
    {},
    optional={
        "input": st.dictionaries(
            st.sampled_from(["required", "optional", "hidden", "x"]),
            st.dictionaries(
                st.text(max_size=3),
                json_values
                | st.tuples(st.sampled_from(["INT", "COMBO", ["a"], "*"]) | json_values, json_values).map(list),
            )
            | json_values,
        )
        | json_values,
        **{key: json_values for key in RECORDED["KSampler"] if key != "input"},
    },
)


@settings(max_examples=200, deadline=None)
@given(shown=st.dictionaries(st.text(st.characters(), max_size=5), entries, max_size=3), models=json_values)
def test_whatever_a_server_tells_ends_in_a_catalogue_that_can_be_kept(shown: Any, models: Any) -> None:
    found = catalogue_of(shown, models if isinstance(models, dict) else {})
    text = json.dumps(found.to_json(), allow_nan=False, ensure_ascii=False)
    text.encode()
    back = Catalogue.from_json(json.loads(text))
    assert (back.nodes, back.digest) == (found.nodes, found.digest)
    json.dumps(found.object_info(["a.png"]), allow_nan=False, ensure_ascii=False).encode()


NAMES = [f"some folder/a model with a longer name {number:05}.safetensors" for number in range(3_000)]


def large_server(nodes: int = 2_000, boxes: int = 200) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """A server with very many packs and models: of `boxes`, half offer a folder, the rest a part of it or more."""
    offered = [NAMES, ["None", *NAMES], NAMES[:-1], [*NAMES, *(f"extra {n}.bin" for n in range(40))]]
    shown = {}
    for number in range(nodes):
        entry = json.loads(json.dumps(RECORDED["KSampler"]))
        entry["name"], entry["python_module"] = f"Node {number}", "custom_nodes.large"
        if number < boxes:
            entry["input"]["required"]["lora_name"] = [list(offered[number % 4]), {"tooltip": "A file."}]
        shown[f"Node {number}"] = entry
    return json.loads(json.dumps(shown)), {"loras": NAMES, "checkpoints": []}


def test_a_list_of_models_stands_in_the_json_once() -> None:
    text = json.dumps(catalogue_of(*large_server(nodes=50, boxes=40)).to_json())
    assert text.count(NAMES[0]) == 3  # among the models, and in the two lists that are no folder's
    assert text.count(NAMES[-1]) == 2


def test_short_lists_stay_where_they_are() -> None:
    raw = Catalogue({"X": read(boxes(*map(str, range(SHARED_FROM - 1))))}).to_json()
    assert "lists" not in raw


def test_long_lists_of_outputs_and_newer_boxes_are_shared_as_well() -> None:
    choices = [str(number) for number in range(SHARED_FROM)]
    entry = {"input": {"required": {"a": [choices], "b": ["COMBO", {"options": choices}]}}, "output": [choices]}
    found = catalogue_of({"X": entry, "Y": json.loads(json.dumps(entry))}, {})
    assert json.dumps(found.to_json()).count('"99"') == 1
    back = Catalogue.from_json(json.loads(json.dumps(found.to_json())))
    assert back.nodes == found.nodes
    assert back.object_info()["X"]["output"] == [choices]


def test_a_list_that_is_missing_is_told() -> None:
    raw = catalogue_of({"X": boxes(*map(str, range(SHARED_FROM)))}, {}).to_json()
    with pytest.raises(KeyError):
        Catalogue.from_json({**raw, "lists": {"other": []}})


def test_two_thousand_nodes_with_two_hundred_long_boxes_take_seconds_and_little_memory() -> None:
    shown, models = large_server()
    start = time.process_time()
    found = catalogue_of(shown, models)
    text = json.dumps(found.to_json())
    back = Catalogue.from_json(json.loads(text))
    assert back.digest == found.digest
    assert len(back.filled["Node 0"].input["lora_name"].choices or ()) == 3_000
    assert time.process_time() - start < 8  # about 1 s on a free processor
    assert len(text) < 8_000_000

    other = catalogue_of(shown, {"loras": [*NAMES, "one more"], "checkpoints": []})
    assert other.digest != found.digest
    start = time.process_time()
    merged = Catalogue.merged([found, other])
    assert merged.models["loras"] == ("one more", *NAMES)
    assert merged.filled.keys() == found.nodes.keys()
    assert time.process_time() - start < 2  # about 0.1 s on a free processor

    tracemalloc.start()
    held = [Catalogue.from_json(json.loads(text)).filled]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(held) == 1
    assert most < 200_000_000
