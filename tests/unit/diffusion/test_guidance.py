import pytest
import torch
from torch import Tensor

from limner.diffusion.conditioning import Conditioning
from limner.diffusion.guidance import Guidance

X, SIGMA = torch.zeros(2, 1, 1, 1), torch.tensor(1.0)


def text(value: float, tokens: int = 77) -> Conditioning:
    return [(torch.full((1, tokens, 4), value), {})]


class Network:
    """Answers with the mean of the text, and counts how often it was asked."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, x: Tensor, sigma: Tensor, context: Tensor) -> Tensor:
        assert len(x) == len(context)
        self.batches.append(len(x))
        return x + context.mean(dim=(1, 2)).reshape(-1, 1, 1, 1)


def test_guidance_goes_beyond_the_positive_answer() -> None:
    network = Network()
    assert Guidance(network, text(3.0), text(1.0), 7.5)(X, SIGMA).flatten().tolist() == [16.0, 16.0]
    assert network.batches == [4], "both sides in one batch"


def test_at_scale_one_the_negative_is_not_asked() -> None:
    network = Network()
    assert Guidance(network, text(3.0), text(1.0), 1.0)(X, SIGMA).flatten().tolist() == [3.0, 3.0]
    assert network.batches == [2]


def test_texts_of_different_length_are_asked_one_after_the_other() -> None:
    network = Network()
    assert Guidance(network, text(3.0, tokens=154), text(1.0), 2.0)(X, SIGMA).flatten().tolist() == [5.0, 5.0]
    assert network.batches == [2, 2]


def test_several_texts_on_one_side_are_averaged() -> None:
    answer = Guidance(Network(), text(3.0) + text(5.0), text(1.0), 2.0)(X, SIGMA)
    assert answer.flatten().tolist() == pytest.approx([7.0, 7.0])


def test_the_negative_answer_can_be_had_beside_the_guided_one() -> None:
    network = Network()
    answer, unguided = Guidance(network, text(3.0), text(1.0), 1.0).both(X, SIGMA)
    assert (answer.flatten().tolist(), unguided.flatten().tolist()) == ([3.0, 3.0], [1.0, 1.0])
    assert network.batches == [4]
