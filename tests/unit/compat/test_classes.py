"""Classes in the classic style, with the odd forms that packs are written in."""

from __future__ import annotations

import re
from typing import Any

import pytest

from limner.engine.events import NodeBlocked, PackEvent, PreviewReady, RunFailed, RunSucceeded, StepDone, TextShown
from limner.graph.spec import NodeSpec
from tests.unit.compat.conftest import Packs

IMAGE = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 4, "batch_size": 2, "color": 255}}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def shown(packs: Packs, class_type: str, slot: int = 0, **inputs: Any) -> Any:
    """What an output of a node is, as text."""
    result = packs.run({"1": node(class_type, **inputs), "2": node("ApShow", v=["1", slot]), "0": IMAGE})
    assert isinstance(result.end, RunSucceeded), result.end
    return result.outputs["2"]["text"][0]


def test_odd_declarations_are_read(packs: Packs) -> None:
    spec = packs.kinds["Cp Odd"].spec
    assert spec.display_name == "Odd forms"
    assert spec.python_module == "custom_nodes.classic-pack"
    assert spec.input["thing"].folder == "classic_things"
    assert (spec.input["lora"].folder, spec.input["lora"].first) == ("loras", ("None",))
    assert spec.input["mode"].type == ["a", "b"]
    assert spec.input["anything"].any_type
    assert spec.input["table"].type == {}
    assert spec.input["table"].any_type
    assert [(each.name, each.type, each.any_type) for each in spec.outputs] == [
        ("number", "INT", False),
        ("*", "*", True),
        ("MASK", "MASK", False),
    ]
    assert spec.hidden == {"unique_id": "UNIQUE_ID", "note": "STRING"}
    assert NodeSpec.from_json(spec.to_json()).object_info() == spec.object_info()


def test_files_of_a_folder_are_offered_as_they_are_now(packs: Packs) -> None:
    shown = packs.catalogue.node_info("Cp Odd")["input"]["required"]
    assert shown["thing"] == [["one.safetensors"]]
    assert shown["lora"][0] == ["None"]


def test_a_class_gets_its_inputs_and_what_the_engine_fills_in(packs: Packs) -> None:
    inputs = {"number": 8, "thing": "one.safetensors", "lora": "None", "mode": "b", "anything": ["0", 0]}
    assert shown(packs, "Cp Odd", 1, **inputs) == "one.safetensors|None|b|1|n|['anything']"
    assert shown(packs, "Cp Odd", 1, **inputs, note="mine").endswith("|mine|['anything']")


def test_an_open_class_takes_inputs_of_any_name(packs: Packs) -> None:
    assert packs.kinds["CpOpen"].spec.open_inputs
    assert shown(packs, "CpOpen", input_7=1, zebra="x", any_03=["0", 0]).startswith("[('any_03', tensor(")


def test_core_nodes_are_called_by_their_classes(packs: Packs) -> None:
    assert "16" not in shown(packs, "CpEncode", color=0)
    result = packs.run({"1": node("CpEncode", color=0x0000FF), "2": node("CpPreview", images=["1", 1])})
    assert isinstance(result.end, RunSucceeded), result.end
    assert len(packs.written) == 1


def test_subclasses_of_save_image_write_files_of_the_job(packs: Packs) -> None:
    result = packs.run({"0": IMAGE, "1": node("CpSave", images=["0", 0], filename_prefix="classic/x")})
    assert result.outputs["1"]["images"] == [
        {"filename": f"kept-x_more_0000{n}_.png", "subfolder": "classic", "type": "output"} for n in (1, 2)
    ]
    assert [file["filename"] for file in packs.written] == ["kept-x_more_00001_.png", "kept-x_more_00002_.png"]


def test_a_preview_s_files_are_temporary_and_never_have_a_name_twice(packs: Packs) -> None:
    names = set()
    for color in (1, 2):
        image = {**IMAGE, "inputs": {**IMAGE["inputs"], "color": color, "batch_size": 1}}
        packs.run({"0": image, "1": node("CpPreview", images=["0", 0])})
        [file] = packs.written
        assert re.fullmatch(r"classic_temp_[a-z]{5}_00001_[a-z]{12}\.png", file["filename"])
        assert file["type"] == "temp"
        names.add(file["filename"])
    assert len(names) == 2


def test_files_that_a_class_writes_by_hand_become_the_job_s(packs: Packs) -> None:
    result = packs.run({"0": IMAGE, "1": node("CpOwnFile", images=["0", 0], text="hello")})
    assert result.outputs["1"]["images"] == [
        {"filename": "kept-8_00001_.png", "subfolder": "own", "type": "output"},
        {"filename": "kept-data.json", "subfolder": "own", "type": "output"},
    ]
    assert result.outputs["1"]["text"] == ["hello"]
    assert len(packs.written) == 2


def test_a_file_outside_of_the_run_s_folders_is_not_taken(packs: Packs) -> None:
    result = packs.run({"1": node("CpEnds", how="outside", salt=1)})
    assert isinstance(result.end, RunSucceeded)
    assert packs.written == []


def test_a_thread_of_a_node_tells_progress_and_events(packs: Packs) -> None:
    assert shown(packs, "CpThreaded", v=5) == "5"
    assert [(each.value, each.maximum) for each in packs.events if isinstance(each, StepDone)] == [(1, 2)]
    [event] = [each for each in packs.events if isinstance(each, PackEvent)]
    assert (event.name, event.data, event.everyone) == ("classic/step", {"v": 5}, False)


def test_a_blocker_alone_blocks_every_output(packs: Packs) -> None:
    result = packs.run({"0": IMAGE, "1": node("CpStop", image=["0", 0]), "2": node("ApShow", v=["1", 1])})
    assert isinstance(result.end, RunSucceeded)
    assert result.outputs == {}
    assert not [each for each in packs.events if isinstance(each, NodeBlocked)]


def test_what_limner_has_not_is_named_where_it_is_used(packs: Packs) -> None:
    result = packs.run({"1": node("CpMissing"), "2": node("ApShow", v=["1", 0])})
    assert isinstance(result.end, RunFailed)
    assert result.end.exception_message == "Limner's stand-in for comfy.utils has no a_function_of_tomorrow\n"


def test_a_class_that_ends_the_process_fails_its_node_only(packs: Packs) -> None:
    result = packs.run({"1": node("CpEnds", how="exit", salt=1)})
    assert isinstance(result.end, RunFailed)
    assert result.end.exception_type == "SystemExit"
    assert isinstance(packs.run({"1": node("CpEnds", how="print", salt=1)}).end, RunSucceeded)


def test_types_of_comfy_types_join_as_they_say(packs: Packs) -> None:
    spec = packs.kinds["CpDevices"].spec
    assert (spec.input["any"].type, spec.input["any"].any_type) == ("*", True)
    assert (spec.input["text"].type, spec.input["text"].any_type) == ("STRING", False)
    assert shown(packs, "CpDevices", any=["0", 0], text="x") == "cpu cpu False x"


def test_texts_and_previews_reach_the_run(packs: Packs) -> None:
    packs.previews = True
    shown(packs, "ApText", v=1, text="hi")
    assert [each.text for each in packs.events if isinstance(each, TextShown)] == ["hi"]
    shown(packs, "ApPreviewStep", v=1, w=8, h=4, fmt="PNG", limit=64)
    pictures = [each for each in packs.events if isinstance(each, PreviewReady)]
    assert [each.image_type for each in pictures] == ["image/png"] * 2


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [({"mode": "text", "n": 1}, "reason given by the node"), ({"mode": "false", "n": 1}, "mode")],
)
def test_a_class_s_own_check_fails_the_run_where_no_gateway_has_asked(
    packs: Packs, inputs: dict[str, Any], reason: str
) -> None:
    result = packs.run({"1": node("ApValidate", **inputs)})
    assert isinstance(result.end, RunFailed)
    assert reason in result.end.exception_message


def test_a_class_samples_with_core_classes_and_common_ksampler_as_the_nodes_do(packs: Packs) -> None:
    """And finds another pack's class where all of them are."""
    result = packs.run(
        {
            "1": node("CheckpointLoaderSimple", ckpt_name="limner-demo.safetensors"),
            "2": node("CLIPTextEncode", clip=["1", 1], text="a red square"),
            "3": node("CLIPTextEncode", clip=["1", 1], text=""),
            "4": node("EmptyLatentImage", width=64, height=64, batch_size=1),
            "5": node(
                "KSampler", model=["1", 0], positive=["2", 0], negative=["3", 0], latent_image=["4", 0], seed=3,
                steps=4, cfg=2.0, sampler_name="euler", scheduler="normal", denoise=1.0,
            ),
            "6": node("CpSample", ckpt="limner-demo.safetensors", seed=3),
            "7": node("CpSame", a=["5", 0], b=["6", 0]),
            "8": node("ApShow", v=["7", 0]),
        }
    )  # fmt: skip
    assert isinstance(result.end, RunSucceeded), result.end
    assert result.outputs["8"]["text"] == ["True (7, '7')"]


def test_what_comfy_extras_has_beside_its_nodes(packs: Packs) -> None:
    import torch
    from comfy_extras.nodes_custom_sampler import BasicGuider, Noise_EmptyNoise, Noise_RandomNoise
    from comfy_extras.nodes_mask import GrowMask, composite

    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    assert Noise_EmptyNoise().generate_noise(latent).abs().sum() == 0
    assert Noise_RandomNoise(1).generate_noise(latent).std() > 0.5
    assert (BasicGuider.FUNCTION, GrowMask.FUNCTION) == ("get_guider", "expand_mask")
    put = composite(torch.zeros(1, 4, 8, 8), torch.ones(1, 4, 2, 2), 16, 8, multiplier=8)
    assert put[0, 0].nonzero().tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]
