import math
from typing import Any

import pytest
import torch

from limner.errors import UnfitInput
from limner.nodes import library
from limner.nodes.values.sigmas import flux2_mu
from tests.unit.nodes.contexts import result_of

NODES = library.load()
BOMBS = [
    "9**9**9", "9**9**9**9", "pow(9, 9**9)", "1 << 10**9", "(1 << 4000) * (1 << 4000)", "10**1000 * 10**1000",
    "round(5, -10**9)", "9" * 4090, "-" * 4000 + "1", "(" * 2000 + "1" + ")" * 2000, "2**0.5**-9999",
]  # fmt: skip
ESCAPES = [
    "__import__('os')", "().__class__.__bases__[0]", "a.__class__", "a.real", "'x' * 10**9", "[0] * 10**9", "f'{a}'",
    "lambda: 1", "[x for x in values]", "(x := 5)", "open('f')", "values.append(1)", "globals()", "{1: 2}", "...",
    "values[0]", "values * 1000", "values + values", "abs(values)", "abs.__self__", "b''", "eval('1')", "round(a, 'x')",
    "sum(values, values)", "int('9')", "max", "values", "1j", "import os", "a = 1", "a; b",
]  # fmt: skip


def run(name: str, **inputs: Any) -> tuple[Any, ...]:
    return result_of(NODES[name], inputs).values


def reckon(expression: str, **values: Any) -> tuple[Any, ...]:
    return run(
        "ComfyMathExpression", expression=expression, **{f"values.{name}": each for name, each in values.items()}
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PrimitiveString", "a"),
        ("PrimitiveStringMultiline", "a\nb"),
        ("PrimitiveInt", -(2**63) + 1),
        ("PrimitiveFloat", 0.1),
        ("PrimitiveBoolean", True),
    ],
)
def test_a_primitive_hands_its_value_on(name: str, value: Any) -> None:
    assert run(name, value=value) == (value,)


def test_a_seed_is_handed_on() -> None:
    assert run("SeedNode", seed=2**63 - 1) == (2**63 - 1,)


def test_a_custom_combo_gives_its_text_and_its_number() -> None:
    assert run("CustomCombo", choice="Turbo", index=2) == ("Turbo", 2)
    assert run("CustomCombo", choice="Turbo") == ("Turbo", 0)


@pytest.mark.parametrize(("on", "value"), [(True, "yes"), (False, "no")])
def test_a_switch_gives_the_chosen_branch(on: bool, value: str) -> None:
    assert run("ComfySwitchNode", switch=on, on_true="yes", on_false="no") == (value,)
    assert run("ComfySwitchNode", switch=on, **{"on_true" if on else "on_false": None}) == (None,)


@pytest.mark.parametrize(("on", "wanted"), [(True, ["on_true"]), (False, ["on_false"])])
def test_a_switch_asks_for_the_chosen_branch_alone(on: bool, wanted: list[str]) -> None:
    inputs = {"switch": on, "on_true": None, "on_false": None}
    assert NODES["ComfySwitchNode"].wanted(inputs, None) == wanted
    assert NODES["ComfySwitchNode"].wanted({"switch": on}, None) == []


@pytest.mark.parametrize("on", [True, False])
def test_a_switch_whose_chosen_branch_is_not_connected_says_so(on: bool) -> None:
    with pytest.raises(UnfitInput, match=f"{'on_true' if on else 'on_false'} is not connected"):
        run("ComfySwitchNode", switch=on, **{"on_false" if on else "on_true": 1})


@pytest.mark.parametrize(
    ("expression", "values", "result"),
    [
        ("a + b", {"a": 1, "b": 2.5}, 3.5),
        ("a & -8", {"a": 1023}, 1016),
        ("ceil(1.5 * log2(max(a, b))) + 2", {"a": 4, "b": 16}, 8),
        ("a / 2", {"a": 5}, 2.5),
        ("a // 2 + a % 2", {"a": -5}, -2),
        ("sum(values) / 3", {"a": 1, "b": 2, "c": 6}, 3),
        ("min(values) - max(a, b, c)", {"a": 1, "b": 2, "c": 6}, -5),
        ("round(a, 1)", {"a": 0.26}, 0.3),
        ("round(a)", {"a": 2.5}, 2),
        ("a if b > 2 and not c else -a", {"a": 7, "b": 3, "c": False}, 7),
        ("2 ** 10 + pow(2, -1)", {"a": 0}, 1024.5),
        ("sqrt(a) + floor(-0.5) + abs(-3)", {"a": 16}, 6),
        ("int(a) + float(b)", {"a": 2.9, "b": True}, 3.0),
        ("log10(1000) + log(8, 2) + sin(0) + cos(0) + tan(0)", {"a": 0}, 7),
        ("(a << 3 | 1) ^ (~a >> 1)", {"a": 5}, (5 << 3 | 1) ^ (~5 >> 1)),
        ("\n  a\n  + 1\n", {"a": 1}, 2),
    ],
)
def test_formulas_are_reckoned(expression: str, values: dict[str, Any], result: float) -> None:
    real, whole, truth = reckon(expression, **values)
    assert real == pytest.approx(result)
    assert (type(real), whole, truth) == (float, int(real), bool(result))


@pytest.mark.parametrize("expression", BOMBS, ids=lambda text: text[:20])
def test_a_formula_cannot_reach_for_a_number_without_bounds(expression: str) -> None:
    with pytest.raises(UnfitInput, match=r"cannot be reckoned|is no finite number"):
        reckon(expression, a=1)


@pytest.mark.parametrize("expression", ESCAPES)
def test_a_formula_cannot_leave_arithmetic(expression: str) -> None:
    with pytest.raises(UnfitInput, match=r"cannot be reckoned|is no finite number"):
        reckon(expression, a=1)


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("a + z", "'z' is none of the connected values"),
        ("exp(a)", "'exp' is none of its functions: abs, ceil"),
        ("a / 0", "division by zero"),
        ("(-8) ** 0.5", "no real number"),
        ("1e999", "no finite number"),
        ("sqrt(-1)", "cannot be reckoned"),
        ("a +", "cannot be reckoned"),
        ("1" * 4097, "4097 characters"),
        ("'text'", "is no real number"),
        ("10.0 ** 400", "cannot be reckoned"),
    ],
)
def test_a_formula_s_fault_is_told(expression: str, what: str) -> None:
    with pytest.raises(UnfitInput, match=what):
        reckon(expression, a=1)


@pytest.mark.parametrize("value", ["5", None, [1]])
def test_a_formula_takes_numbers_alone(value: Any) -> None:
    with pytest.raises(UnfitInput, match=r"the value a is .*, which is no number"):
        reckon("1", a=value)


def test_a_formula_over_nan_is_refused() -> None:
    with pytest.raises(UnfitInput, match="nan, which is no finite number"):
        reckon("a", a=math.nan)


@pytest.mark.parametrize(
    ("value", "real", "whole"),
    [
        (7, 7.0, 7),
        (-2.9, -2.9, -2),
        (" 3.5e1 ", 35.0, 35),
        (True, 1.0, 1),
        ("-4", -4.0, -4),
        (2**60 + 1, 2.0**60, 2**60 + 1),
    ],
)
def test_numbers_are_converted(value: Any, real: float, whole: int) -> None:
    assert run("ComfyNumberConvert", value=value) == (real, whole)


@pytest.mark.parametrize("value", ["", " ", "abc", "inf", "nan", "1e999", "9" * 400, math.inf, math.nan, None, [1]])
def test_what_is_no_number_is_not_converted(value: Any) -> None:
    with pytest.raises(UnfitInput):
        run("ComfyNumberConvert", value=value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"k": "v"}', "v"),
        ('Sure! {not json} ```json\n{"k": 5, "l": {"k": 6}}\n``` bye {"k": 7}', "5"),
        ('{"k": null}', ""),
        ('{"l": 1}', ""),
        ("[1, 2]", ""),
        ("", ""),
        ('{"k": [1, {"a": true}]}', "[1, {'a': True}]"),
        ('{"k": 0}', "0"),
        ('{"a": {"k": "in"', ""),
        ('{"a": {"k": "inner"}', "inner"),
    ],
)
def test_a_key_is_read_from_the_first_json_object(text: str, found: str) -> None:
    assert run("JsonExtractString", json_string=text, key="k") == (found,)


def test_brackets_without_end_do_not_hang_the_engine() -> None:
    assert run("JsonExtractString", json_string='{"a":' * 900, key="a") == ("",)
    with pytest.raises(UnfitInput, match="too many brackets"):
        run("JsonExtractString", json_string='{"a":' * 100_000, key="a")


def test_sigmas_are_read_from_a_text() -> None:
    (sigmas,) = run("ManualSigmas", sigmas="1., 0.99375,\n 5e-1;.25  -0 +2")
    assert sigmas.dtype == torch.float32
    assert torch.equal(sigmas, torch.tensor([1.0, 0.99375, 0.5, 0.25, 0.0, 2.0]))


@pytest.mark.parametrize("text", ["", "none", "1e999"])
def test_a_text_without_levels_is_refused(text: str) -> None:
    with pytest.raises(UnfitInput, match="noise level"):
        run("ManualSigmas", sigmas=text)


def test_the_empty_latent_of_flux_2_has_its_shape() -> None:
    (latent,) = run("EmptyFlux2LatentImage", width=1248, height=832, batch_size=2)
    assert latent["samples"].shape == (2, 128, 52, 78)
    assert latent["samples"].count_nonzero() == 0


@pytest.mark.parametrize(("width", "height"), [(1024, 1024), (1248, 832), (64, 64), (2048, 2048)])
@pytest.mark.parametrize("steps", [1, 4, 20, 200])
def test_the_schedule_of_flux_2_equals_that_of_diffusers(width: int, height: int, steps: int) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

    mu = compute_empirical_mu(width * height // 256, steps)
    assert flux2_mu(width * height // 256, steps) == pytest.approx(mu)
    reference = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    reference.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps).tolist(), mu=mu)
    (sigmas,) = run("Flux2Scheduler", steps=steps, width=width, height=height)
    assert sigmas.shape == (steps + 1,)
    assert torch.allclose(sigmas, reference.sigmas, atol=1e-6)


@pytest.mark.parametrize(
    ("ratio", "area", "multiple", "size"),
    [
        ("1:1 (Square)", 1.0, 8, (1024, 1024)),
        ("16:9 (Widescreen)", 0.9, 32, (1280, 736)),
        ("9:16 (Portrait Widescreen)", 1.0, 8, (768, 1368)),
        ("21:9 (Ultrawide)", 0.1, 128, (512, 256)),
    ],
)
def test_a_resolution_has_the_proportions_and_the_area(ratio: str, area: float, multiple: int, size: Any) -> None:
    assert run("ResolutionSelector", aspect_ratio=ratio, megapixels=area, multiple=multiple) == size


def test_unknown_proportions_are_refused() -> None:
    with pytest.raises(UnfitInput, match="'5:4' are none of"):
        run("ResolutionSelector", aspect_ratio="5:4", megapixels=1.0)
