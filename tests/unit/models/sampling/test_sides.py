"""Several conditionings: where and when each counts, and what goes through the network together."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limner.diffusion.conditioning import Conditioning
from limner.errors import UnfitInput
from limner.models.sampling import answers, room
from limner.models.sampling.conds import Sides, converted, helpers, prepared, release
from tests.unit.models.sampling.closed import EXPLODING, Closed, closed, text

X = torch.zeros(1, 4, 32, 32)
LEVEL = torch.tensor([1.0])
SPREAD = 0.0
"""Of no width: the answer is the mean that the text tells, whatever x."""


def ready(
    positive: Conditioning, negative: Conditioning | None = None, x: Tensor = X, **facts: Any
) -> tuple[Any, Closed, Sides]:
    model, architecture = closed(1.0, spread=SPREAD)
    sides = {"positive": converted(positive)}
    if negative is not None:
        sides["negative"] = converted(negative)
    return model.model, architecture, prepared(model.model, sides, noise=x, latent_image=x, **facts)


def answer(*conds: Conditioning, level: float = 1.0, x: Tensor = X) -> Tensor:
    """What the model expects under all of these on one side, at each place: (h, w)."""
    base, _, sides = ready([each for cond in conds for each in cond], x=x)
    (found,) = answers(base, [sides["positive"]], x, torch.full((len(x),), level), {})
    assert torch.equal(found, found[:, :1].expand_as(found)), "every channel is the same"
    return found[0, 0]


def test_two_on_one_side_are_averaged_by_their_strength() -> None:
    assert torch.allclose(answer(text(1.0), text(3.0)), torch.tensor(2.0))
    assert torch.allclose(answer(text(1.0, strength=3.0), text(3.0)), torch.tensor(1.5))


@given(st.lists(st.tuples(st.floats(-4, 4), st.floats(0.1, 10)), min_size=1, max_size=4))
def test_any_strengths_give_the_weighted_mean(told: list[tuple[float, float]]) -> None:
    found = answer(*(text(value, strength=strength) for value, strength in told), x=X[..., :2, :2])
    mean = sum(value * strength for value, strength in told) / sum(strength for _, strength in told)
    assert torch.allclose(found, torch.tensor(mean), atol=1e-4)


def test_an_area_counts_within_itself_and_fades_into_what_surrounds_it() -> None:
    found = answer(text(1.0), text(5.0, area=(16, 16, 8, 8), strength=1.0))
    assert torch.allclose(found[:8], torch.tensor(1.0))
    assert torch.allclose(found[15:17, 15:17], torch.tensor(3.0)), "both count in full"
    assert (found[16, 7:12].diff() > 0).all(), "it grows from its edge inwards"
    quarter = 1 / 4  # a quarter of the edge, and no more than 8 places, fades: here 4
    assert torch.allclose(found[16, 8], torch.tensor((1 + 5 * quarter) / (1 + quarter)))


def test_an_area_at_the_latent_s_own_edge_does_not_fade_there() -> None:
    found = answer(text(1.0), text(5.0, area=(32, 16, 0, 0)))
    assert torch.allclose(found[:, 0], torch.tensor(3.0))
    assert found[0, 15] < 3


def test_where_nothing_counts_the_answer_is_zero() -> None:
    found = answer(text(5.0, area=(16, 32, 0, 0)))
    assert torch.allclose(found[:16], torch.tensor(5.0))
    assert torch.equal(found[16:], torch.zeros(16, 32))


def test_areas_that_lie_side_by_side_make_up_the_whole() -> None:
    halves = answer(text(1.0, area=(32, 16, 0, 0)), text(1.0, area=(32, 16, 0, 16)))
    assert torch.allclose(halves, answer(text(1.0)))


def test_an_area_told_in_parts_is_the_same_as_one_told_in_places() -> None:
    places = answer(text(1.0), text(5.0, area=(16, 8, 8, 4)))
    parts = answer(text(1.0), text(5.0, area=("percentage", 0.5, 0.25, 0.25, 0.125)))
    assert torch.equal(places, parts)


def test_an_area_that_reaches_beyond_the_latent_is_cut() -> None:
    assert torch.equal(
        answer(text(1.0), text(5.0, area=(99, 99, 16, 16))), answer(text(1.0), text(5.0, area=(16, 16, 16, 16)))
    )


@pytest.mark.parametrize(
    ("area", "what"),
    [
        ((8, 8, 32, 0), "begins at place 32 of a latent with 32"),
        ((8, 8), "an area of 1 edges does not fit a latent of 2"),
        ((0, 8, 0, 0), "each must be at least one place"),
        (("percentage", 0.5, 0.5, 1.0, 0.0), "begins at place 32"),
    ],
)
def test_an_area_that_does_not_fit_is_told(area: Any, what: str) -> None:
    with pytest.raises(UnfitInput, match=what):
        answer(text(1.0, area=area))


def test_a_mask_says_how_much_each_place_counts() -> None:
    mask = torch.zeros(1, 32, 32)
    mask[:, :, 16:] = 1
    found = answer(text(1.0), text(5.0, mask=mask, mask_strength=3.0))
    assert torch.allclose(found[:, :16], torch.tensor(1.0))
    assert torch.allclose(found[:, 16:], torch.tensor((1 + 3 * 5) / 4))


def test_masks_that_add_up_to_one_everywhere_change_nothing() -> None:
    mask = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(answer(text(2.0, mask=mask), text(2.0, mask=1 - mask)), torch.tensor(2.0), atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (1, 7, 5), (3, 32, 32)])
def test_masks_of_any_size_and_batch_are_fitted(shape: tuple[int, ...]) -> None:
    x = torch.zeros(2, 4, 32, 32)
    assert torch.allclose(answer(text(1.0), text(5.0, mask=torch.ones(shape)), x=x), torch.tensor(3.0))


def test_each_item_of_a_batch_has_its_own_mask() -> None:
    x = torch.zeros(2, 4, 32, 32)
    masks = torch.stack([torch.zeros(32, 32), torch.ones(32, 32)])
    base, _, sides = ready([*text(1.0), *text(5.0, mask=masks)], x=x)
    (found,) = answers(base, [sides["positive"]], x, torch.ones(2), {})
    assert found.mean(dim=(1, 2, 3)).tolist() == pytest.approx([1.0, 3.0])


def test_the_bounds_of_a_mask_become_its_area() -> None:
    mask = torch.zeros(1, 32, 32)
    mask[:, 4:20, 10:14] = 1
    base, architecture, sides = ready([*text(1.0), *text(5.0, mask=mask, set_area_to_bounds=True)])
    assert sides["positive"][1]["area"] == (16, 8, 4, 10), "8 places is the least edge"
    (found,) = answers(base, [sides["positive"]], X, LEVEL, {})
    assert torch.allclose(found[0, 0, 10, 12], torch.tensor(3.0))
    assert torch.allclose(found[0, 0, 10, 15], torch.tensor(1.0))
    assert [tuple(call.x.shape[2:]) for call in architecture.calls] == [(32, 32), (16, 8)]


def test_an_empty_mask_has_an_area_that_counts_nothing() -> None:
    empty = torch.zeros(1, 32, 32)
    assert torch.allclose(answer(text(1.0), text(5.0, mask=empty, set_area_to_bounds=True)), torch.tensor(1.0))


def test_what_is_laid_over_the_latent_is_cut_with_the_area() -> None:
    columns = torch.arange(32.0).expand(1, 4, 32, 32)
    found = answer(text(0.0, area=(32, 8, 0, 12), pixels=columns))
    assert torch.allclose(found[0, 12:20], torch.arange(12.0, 20.0), atol=1e-4)


@pytest.mark.parametrize(("part", "told"), [(0.1, 1.0), (0.5, 3.0), (0.9, 3.0)])
def test_a_range_says_when_a_conditioning_counts(part: float, told: float) -> None:
    """The first until 0.3 of the way down, the second from there on."""
    conds = text(1.0, start_percent=0.0, end_percent=0.3), text(3.0, start_percent=0.3, end_percent=1.0)
    assert torch.allclose(answer(*conds, level=EXPLODING.levels.at(part)), torch.tensor(told))


def test_a_side_of_which_nothing_counts_now_answers_zero() -> None:
    assert torch.equal(answer(text(1.0, start_percent=0.5, end_percent=1.0), level=10.0), torch.zeros(32, 32))


def test_an_area_of_the_positive_is_made_whole_by_the_negative_there() -> None:
    near = text(4.0, area=(20, 20, 4, 4))
    _, _, sides = ready([*text(1.0), *text(5.0, area=(8, 8, 8, 8), strength=2.0)], [*text(-1.0), *near])
    around = sides["negative"][-1]
    assert around["area"] == (8, 8, 8, 8)
    assert around["strength"] == 2.0, "it counts as much as its counterpart"
    assert around["model_conds"]["c_crossattn"].value.mean() == 4, "the smallest that holds it"
    areas = [cond.get("area") for cond in sides["positive"]]
    assert areas == [None, (8, 8, 8, 8), (20, 20, 4, 4)], "and the other way round"


def test_an_area_that_the_other_side_has_itself_needs_no_counterpart() -> None:
    _, _, sides = ready(text(1.0, area=(8, 8, 0, 0)), text(-1.0, area=(8, 8, 0, 0)))
    assert [len(conds) for conds in sides.values()] == [1, 1]


class Control:
    """A control network that adds to the mean, and keeps what it was asked."""

    def __init__(self, amount: float = 10.0) -> None:
        self.amount = amount
        self.asked: list[tuple[Any, ...]] = []
        self.told: list[str] = []

    def pre_run(self, model: Any, percent_to_timestep: Any) -> None:
        self.told.append(f"pre_run {percent_to_timestep(1.0)}")

    def get_control(self, x: Tensor, t: Tensor, cond: Any, count: int, options: Any) -> dict[str, list[Any]]:
        self.asked.append((len(x), t.tolist(), sorted(cond), count, options["cond_or_uncond"]))
        return {"input": [], "middle": [torch.full_like(x, self.amount)], "output": []}

    def get_models(self) -> list[str]:
        return ["network"]

    def cleanup(self) -> None:
        self.told.append("cleanup")


def test_a_control_network_is_asked_with_its_own_conditioning_only() -> None:
    control = Control()
    base, architecture, sides = ready(text(1.0, control=control), text(-1.0))
    positive, negative = answers(base, [sides["positive"], sides["negative"]], X, LEVEL, {})
    assert (float(positive.mean()), float(negative.mean())) == (11.0, -1.0)
    assert control.asked == [(1, [1.0], ["c_crossattn", "transformer_options"], 1, [0])]
    assert len(architecture.calls) == 2
    assert control.told == ["pre_run 0.0"]
    assert helpers(sides) == ["network"]
    release(sides)
    assert control.told[-1] == "cleanup"


def test_one_that_applies_to_the_negative_too_is_asked_once_for_both() -> None:
    control = Control()
    base, architecture, sides = ready(text(1.0, control=control, control_apply_to_uncond=True), text(-1.0))
    positive, negative = answers(base, [sides["positive"], sides["negative"]], X, LEVEL, {})
    assert (float(positive.mean()), float(negative.mean())) == (11.0, 9.0)
    assert [each[3:] for each in control.asked] == [(2, [1, 0])]
    assert len(architecture.calls) == 1


def test_a_negative_with_a_control_network_of_its_own_keeps_it() -> None:
    mine, theirs = Control(1.0), Control(2.0)
    positive = text(1.0, control=mine, control_apply_to_uncond=True)
    _, _, sides = ready(positive, text(-1.0, control=theirs))
    assert [cond["control"] for cond in sides["negative"]] == [theirs]


def test_more_control_networks_than_negatives_double_these() -> None:
    two = [*text(1.0, control=Control(), control_apply_to_uncond=True)] * 2
    _, _, sides = ready([*two], text(-1.0))
    assert len(sides["negative"]) == 2


class Grounding:
    """A GLIGEN model as packs know it."""

    def __init__(self) -> None:
        self.model = self
        self.asked: list[Any] = []

    def set_position(self, shape: Any, positions: Any, device: Any) -> Any:
        self.asked.append((tuple(shape), positions))
        return lambda x, options: x + 1


def test_grounding_becomes_a_patch_between_the_attentions_on_both_sides() -> None:
    gligen = Grounding()
    base, architecture, sides = ready(text(1.0, gligen=("position", gligen, ["box"])), text(-1.0))
    answers(base, [sides["positive"], sides["negative"]], X, LEVEL, {"transformer_options": {"patches": {"other": []}}})
    assert gligen.asked == [((1, 4, 32, 32), ["box"])] * 2
    assert [len(call.options["patches"]["middle_patch"]) for call in architecture.calls] == [1, 1]
    assert helpers(sides) == [gligen]


def test_what_joins_goes_through_the_network_in_one_call() -> None:
    conds = [*text(1.0), *text(2.0, tokens=6), *text(3.0, tokens=5), *text(4.0, pooled_output=torch.ones(1, 2))]
    base, architecture, sides = ready(conds, text(-1.0))
    answers(base, [sides["positive"], sides["negative"]], X, LEVEL, {})
    asked = [[round(told, 3) for told in call.text] for call in architecture.calls]
    assert asked == [[-1.0, 2.0, 1.0], [3.0], [4.0]], "3 and 6 tokens join, 3 and 5 do not; a vector of its own neither"


def test_a_batch_that_does_not_fit_into_memory_is_asked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    item = X[0, 0].numel() * room.VALUES_PER_PLACE * 4
    base, architecture, sides = ready([*text(1.0), *text(2.0), *text(3.0)], text(-1.0))
    (whole,) = answers(base, [sides["positive"]], X, LEVEL, {})
    monkeypatch.setattr(room, "free_bytes", lambda device: 2 * item)
    architecture.calls.clear()
    (parts,) = answers(base, [sides["positive"]], X, LEVEL, {})
    assert [len(call.text) for call in architecture.calls] == [1, 2]
    monkeypatch.setattr(room, "free_bytes", lambda device: 0)
    architecture.calls.clear()
    (alone,) = answers(base, [sides["positive"]], X, LEVEL, {})
    assert [len(call.text) for call in architecture.calls] == [1, 1, 1], "one goes whatever there is"
    assert torch.allclose(whole, parts)
    assert torch.allclose(whole, alone)


def test_a_family_is_told_what_a_conditioning_brings() -> None:
    _, architecture, _ = ready(text(1.0, width=640), text(2.0, prompt_type="positive"), seed=7)
    facts = architecture.facts[0]
    assert facts["noise"] is X
    assert facts["latent_image"] is X
    assert (facts["denoise_mask"], facts["width"], facts["seed"], facts["device"].type) == (None, 640, 7, "cpu")
    assert [each["prompt_type"] for each in architecture.facts] == ["positive", "positive"]


@pytest.mark.parametrize("name", ["strength", "mask_strength", "start_percent", "end_percent"])
def test_numbers_that_are_none_are_told(name: str) -> None:
    with pytest.raises(UnfitInput, match=f"{name} is nan"):
        answer(text(1.0, **{name: float("nan")}))


def test_a_mask_that_is_none_is_told() -> None:
    with pytest.raises(UnfitInput, match=r"mask has the shape \(1, 1, 8, 8\)"):
        answer(text(1.0, mask=torch.ones(1, 1, 8, 8)))
