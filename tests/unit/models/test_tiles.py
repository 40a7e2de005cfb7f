import pytest
import torch
from torch import Tensor

from limner.models.tiles import count, tiled


@pytest.mark.parametrize("size", [(5, 9), (16, 16), (17, 40), (64, 31)])
def test_what_looks_at_one_place_alone_comes_out_as_in_one_piece(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size)
    told: list[tuple[int, int]] = []
    out = tiled(
        lambda piece: piece.repeat_interleave(2, 2).repeat_interleave(2, 3),
        x,
        tile=(16, 16),
        overlap=4,
        scale=2,
        on_tile=lambda *step: told.append(step),
    )
    torch.testing.assert_close(out, x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    pieces = 2 * count(size, (16, 16), 4)
    assert told == [(number, pieces) for number in range(1, pieces + 1)]


def test_pieces_are_no_larger_than_asked() -> None:
    seen: list[tuple[int, ...]] = []

    def look(piece: Tensor) -> Tensor:
        seen.append(tuple(piece.shape))
        return piece

    tiled(look, torch.rand(1, 1, 20, 9), tile=(8, 8), overlap=2, channels=1)
    assert seen == [(1, 1, 8, 8), (1, 1, 8, 3)] * 2 + [(1, 1, 8, 8), (1, 1, 8, 3)]


def test_seams_go_softly_from_one_piece_to_the_next() -> None:
    values = iter([0.0, 1.0])
    out = tiled(lambda piece: torch.full_like(piece, next(values)), torch.zeros(1, 1, 1, 12), tile=(1, 8), overlap=4)
    row = out[0, 0, 0]
    assert row[:4].tolist() == [0.0] * 4
    assert row[8:].tolist() == [1.0] * 4
    torch.testing.assert_close(row[4:8], torch.tensor([0.2, 0.4, 0.6, 0.8]))


def test_other_numbers_of_dimensions_and_scales_smaller_than_one() -> None:
    x = torch.rand(1, 2, 48)
    out = tiled(lambda piece: piece[..., ::4], x, tile=(16,), overlap=8, scale=0.25, channels=2)
    torch.testing.assert_close(out, x[..., ::4])
