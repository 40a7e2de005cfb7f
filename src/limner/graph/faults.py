"""The faults of single nodes, worded as ComfyUI words them: clients show and parse these texts."""

from __future__ import annotations

import json
from typing import Any

from limner.graph.spec import InputSpec
from limner.graph.types import InputType

Fault = dict[str, Any]

LONG_LIST = 20
"""From how many choices on an error leaves the list out."""


def required_input_missing(name: str) -> Fault:
    return _fault("required_input_missing", "Required input is missing", name, {"input_name": name})


def bad_linked_input(spec: InputSpec, value: Any) -> Fault:
    message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
    return _fault("bad_linked_input", message, spec.name, {**_about(spec), "received_value": shown(value)})


def return_type_mismatch(spec: InputSpec, received: InputType, link: list[Any]) -> Fault:
    return _fault(
        "return_type_mismatch",
        "Return type mismatch between linked nodes",
        f"{spec.name}, received_type({received}) mismatch input_type({spec.type})",
        {**_about(spec), "received_type": received, "linked_node": link},
    )


def invalid_input_type(spec: InputSpec, value: Any, reason: str) -> Fault:
    return _fault(
        "invalid_input_type",
        f"Failed to convert an input value to a {spec.type} value",
        f"{spec.name}, {value}, {reason}",
        {**_about(spec), "received_value": shown(value), "exception_message": reason},
    )


def value_smaller_than_min(spec: InputSpec, value: Any) -> Fault:
    message = f"Value {value} smaller than min of {spec.options['min']}"
    return _fault("value_smaller_than_min", message, spec.name, {**_about(spec), "received_value": shown(value)})


def value_bigger_than_max(spec: InputSpec, value: Any) -> Fault:
    message = f"Value {value} bigger than max of {spec.options['max']}"
    return _fault("value_bigger_than_max", message, spec.name, {**_about(spec), "received_value": shown(value)})


def value_not_in_list(spec: InputSpec, value: Any) -> Fault:
    choices = list(spec.choices or ())
    is_long = len(choices) > LONG_LIST
    listed = f"(list of length {len(choices)})" if is_long else str(choices)
    about = {"input_name": spec.name, "input_config": None if is_long else spec.config, "received_value": shown(value)}
    return _fault("value_not_in_list", "Value not in list", f"{spec.name}: '{value}' not in {listed}", about)


def custom_validation_failed(name: str, reason: str | None) -> Fault:
    details = f"{name} - {reason}" if reason else name
    return _fault("custom_validation_failed", "Custom validation failed for node", details, {"input_name": name})


def exception_during_validation(kind: str, reason: str) -> Fault:
    about = {"exception_type": kind, "traceback": [f"{kind}: {reason}\n"]}
    return _fault("exception_during_validation", "Exception when validating node", reason, about)


def exception_during_inner_validation(kind: str, reason: str, user: InputSpec, link: list[Any]) -> Fault:
    """`user` is the input that links to the faulty node."""
    about = {
        **_about(user),
        "exception_message": reason,
        "exception_type": kind,
        "traceback": [f"{kind}: {reason}\n"],
        "linked_node": link,
    }
    return _fault("exception_during_inner_validation", "Exception when validating inner node", reason, about)


def shown(value: Any) -> Any:
    """The value if JSON can hold it, else its text: NaN and the infinities are no JSON."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return str(value)
    return value


def _about(spec: InputSpec) -> dict[str, Any]:
    return {"input_name": spec.name, "input_config": spec.config}


def _fault(kind: str, message: str, details: str, extra_info: dict[str, Any]) -> Fault:
    return {"type": kind, "message": message, "details": details, "extra_info": extra_info}
