import torch

from limner.models.flow import flux
from limner.models.flow.biases import scores
from limner.models.flow.joint import use_joint_attention
from tests.support.tiny.flux import DEV, network


def test_a_bias_counts_for_all_but_the_group_itself() -> None:
    one = scores([(0, 2, -2.0)], 4, torch.zeros(1))
    assert one is not None
    assert one.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [-2, -2, 0, 0], [-2, -2, 0, 0]]
    two = scores([(0, 1, 1.0), (1, 2, 0.5)], 3, torch.zeros(1, dtype=torch.float64))
    assert two is not None
    assert two.dtype == torch.float64
    assert two.tolist() == [[0, 0.5, 0], [1, 0, 0], [1, 0.5, 0]]
    assert scores([], 3, torch.zeros(1)) is None


def test_tokens_that_are_not_heeded_at_all_might_as_well_not_be_there() -> None:
    made = network(DEV)
    use_joint_attention(made)
    draw = torch.Generator().manual_seed(1)
    x, context = torch.randn(1, 16, 4, 6, generator=draw), torch.randn(1, 9, DEV.context, generator=draw)
    told = {"timestep": torch.tensor([0.5]), "y": torch.randn(1, DEV.vector, generator=draw), "options": {}}
    told["guidance"] = torch.tensor([3.5])
    with torch.inference_mode():
        without = flux.run(made, x, context=context[:, :6], **told)
        unheeded = flux.run(made, x, context=context, biases=[(6, 9, -1e4)], **told)
        half = flux.run(made, x, context=context, biases=[(6, 9, -0.7)], **told)
        whole = flux.run(made, x, context=context, biases=[(6, 9, 0.0)], **told)
        plain = flux.run(made, x, context=context, **told)
    torch.testing.assert_close(unheeded, without, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole, plain, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(half, plain, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(half, without, rtol=1e-4, atol=1e-5)
