"""Classes in the schema style."""

from __future__ import annotations

from typing import Any

from limner.engine.events import NodeBlocked, RunFailed, RunSucceeded
from limner.graph.spec import NodeSpec
from tests.unit.compat.conftest import Packs
from tests.unit.compat.test_classes import IMAGE, node, shown


def blend(**inputs: Any) -> dict[str, Any]:
    return {
        "first": ["0", 0],
        "share": 0.5,
        "mode": "mix",
        "note": "",
        "clip": True,
        "seed": 0,
        "lora": "None",
        **inputs,
    }


def test_a_schema_is_shown_as_the_newer_nodes_are(packs: Packs) -> None:
    spec = packs.kinds["SpBlend"].spec
    info = spec.object_info()
    assert info["input"]["required"]["share"] == [
        "FLOAT",
        {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01, "round": 0.001, "display": "slider"},
    ]
    assert info["input"]["required"]["mode"] == [
        "COMBO",
        {"default": "mix", "multiselect": False, "options": ["mix", "max"]},
    ]
    assert info["input"]["required"]["note"] == ["STRING", {"multiline": True, "placeholder": "words"}]
    assert info["input"]["optional"] == {"second": ["IMAGE", {}]}
    assert info["input"]["hidden"] == {"unique_id": ["UNIQUE_ID"]}
    assert (info["output_name"], info["output_tooltips"]) == (["picture", "FLOAT"], [None, "what was used"])
    assert (info["deprecated"], info["experimental"], info["api_node"]) == (False, False, False)
    assert (spec.input["lora"].folder, spec.input["lora"].first) == ("loras", ("None",))
    assert spec.validator is not None
    assert spec.validator.inputs == ("share",)
    assert NodeSpec.from_json(spec.to_json()).object_info() == info


def test_a_schema_class_runs(packs: Packs) -> None:
    assert shown(packs, "SpBlend", 1, **blend(share=0.75)) == "0.75"
    assert "tensor" in shown(packs, "SpBlend", 0, **blend(second=["0", 0], mode="max"))


def test_output_nodes_get_prompt_and_workflow_and_their_files_are_the_job_s(packs: Packs) -> None:
    spec = packs.kinds["SpWriter"].spec
    assert spec.hidden == {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
    result = packs.run({"0": IMAGE, "1": node("SpWriter", images=["0", 0])})
    assert isinstance(result.end, RunSucceeded), result.end
    assert [file["filename"] for file in result.outputs["1"]["images"]] == [
        "kept-made_00001_.png",
        "kept-made_00002_.png",
    ]
    assert {file["subfolder"] for file in packs.written} == {"schema"}


def test_an_async_class_and_what_it_shows(packs: Packs) -> None:
    assert packs.kinds["SpPreview"].is_async
    result = packs.run({"0": IMAGE, "1": node("SpPreview", images=["0", 0])})
    assert isinstance(result.end, RunSucceeded), result.end
    assert result.outputs["1"]["animated"] == [False]
    assert {file["type"] for file in packs.written} == {"temp"}


def test_a_schema_class_expands(packs: Packs) -> None:
    assert "tensor" in shown(packs, "SpTwice", size=8)


def test_a_blocked_output_blocks_what_is_behind_it(packs: Packs) -> None:
    result = packs.run({"1": node("SpGate", value=1, open=False), "2": node("ApShow", v=["1", 1])})
    assert isinstance(result.end, RunSucceeded)
    [blocked] = [each for each in packs.events if isinstance(each, NodeBlocked)]
    assert blocked.message == "the gate is closed"
    assert shown(packs, "SpGate", 1, value="through", open=True) == "through"


def test_growing_and_following_inputs_arrive_as_dicts(packs: Packs) -> None:
    numbers = {"numbers.n0": 1.0, "numbers.n1": 2.5}
    assert shown(packs, "SpSum", **numbers, how="plain", start=1) == "4.5"
    assert shown(packs, "SpSum", **numbers, how="scaled", **{"how.factor": 3.0}, start=1) == "13.5"


def test_a_class_is_locked_while_it_runs(packs: Packs) -> None:
    result = packs.run({"1": node("SpLocked"), "2": node("ApShow", v=["1", 0])})
    assert isinstance(result.end, RunFailed)
    assert "locked" in result.end.exception_message


def test_its_own_check_is_asked(packs: Packs) -> None:
    result = packs.run({"0": IMAGE, "1": node("SpBlend", **blend(share=0.25)), "2": node("ApShow", v=["1", 0])})
    assert isinstance(result.end, RunFailed)
    assert "a quarter is not allowed" in result.end.exception_message


def test_videos_of_the_interface_are_limners_own(packs: Packs) -> None:
    from fractions import Fraction

    import pytest
    import torch
    from comfy_api.latest import Input, InputImpl, Types

    parts = Types.VideoComponents(images=torch.zeros(3, 4, 8, 3), frame_rate=Fraction(2))
    video = InputImpl.VideoFromComponents(parts)
    assert isinstance(video, Input.Video)
    assert (video.get_dimensions(), video.get_duration()) == ((8, 4), 1.5)
    assert "mp4" in Types.VideoContainer.as_input()
    with pytest.raises(AttributeError, match=r"comfy_api\.latest\.Types has no VideoOfTomorrow"):
        _ = Types.VideoOfTomorrow
