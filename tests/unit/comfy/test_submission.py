"""POST /prompt's members: what is taken, what is made of it, and what is refused."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from limner.comfy.dialect.submission import Submission
from limner.errors import WorkflowInvalid, WorkflowIsEditorFormat


def read(**members: Any) -> Submission:
    return Submission.read({"prompt": {}, **members})


def refusal(body: Any) -> WorkflowInvalid:
    with pytest.raises(WorkflowInvalid) as caught:
        Submission.read(body)
    return caught.value


def test_an_absent_or_null_id_becomes_a_new_one() -> None:
    for asked in (read(), read(prompt_id=None)):
        assert str(uuid.UUID(asked.prompt_id)) == asked.prompt_id
    assert read(prompt_id=12345).prompt_id == "12345"


def test_the_client_is_kept_with_the_job() -> None:
    asked = read(client_id="c", extra_data={"extra_pnginfo": {"workflow": {}}})
    assert (asked.client_id, asked.extra_data) == ("c", {"extra_pnginfo": {"workflow": {}}, "client_id": "c"})
    assert read(extra_data={"client_id": "d"}).client_id == "d"
    assert read(client_id=None, extra_data=None).extra_data == {}


def test_account_tokens_are_never_kept() -> None:
    assert read(extra_data={"auth_token_comfy_org": "x", "api_key_comfy_org": "y", "z": 1}).extra_data == {"z": 1}


def test_numbers_may_come_as_text() -> None:
    assert read(number="-7.5").number == -7.5
    assert read(number=3).number == 3.0
    assert read().number is None
    assert read(front=True).front


def test_targets_are_ids() -> None:
    assert read(partial_execution_targets=["1", 2]).targets == ["1", "2"]
    assert read(partial_execution_targets=None).targets is None


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({"number": None}, "invalid_number"),
        ({"number": "abc"}, "invalid_number"),
        ({"number": "nan"}, "invalid_number"),
        ({"number": 10**400}, "invalid_number"),
        ({"number": [1]}, "invalid_number"),
        ({"extra_data": 5}, "invalid_extra_data"),
        ({"extra_data": {"extra_pnginfo": []}}, "invalid_extra_data"),
        ({"prompt_id": []}, "invalid_prompt_id"),
        ({"prompt_id": ""}, "invalid_prompt_id"),
        ({"prompt_id": "a\x00b"}, "invalid_prompt_id"),
        ({"prompt_id": "x" * 1000}, "invalid_prompt_id"),
        ({"client_id": {}}, "invalid_client_id"),
        ({"partial_execution_targets": "1"}, "invalid_partial_execution_targets"),
    ],
)
def test_a_wrong_member_is_named(members: dict[str, Any], kind: str) -> None:
    assert refusal({"prompt": {}, **members}).kind == kind


def test_no_prompt_is_told_as_comfyui_does_and_a_bare_workflow_gets_a_hint() -> None:
    bodies: list[Any] = [{}, [], [1]]
    for body in bodies:
        error = refusal(body)
        assert (error.kind, error.title, error.fault_details) == (
            "no_prompt",
            "No prompt provided",
            "No prompt provided",
        )
    assert '{"prompt": WORKFLOW}' in refusal({"1": {"class_type": "A", "inputs": {}}}).fault_details
    assert "object" in refusal("text").title


def test_the_editors_format_without_its_envelope_is_known_too() -> None:
    with pytest.raises(WorkflowIsEditorFormat, match=r"Export \(API\)"):
        Submission.read({"nodes": [], "links": [], "version": 0.4})
