"""Sampling masks of k-space: the lines they take, and their centre."""

from __future__ import annotations

import pytest
import torch
from any2all_operators import (
    UserError,
    equispaced_mask,
    partial_fourier,
    random_mask,
)


def test_random_masks_hold_the_centre() -> None:
    assert int(random_mask(128, 4, 64).sum()) == 64


def test_masks_take_the_lines_they_promise() -> None:
    mask = equispaced_mask(128, 4, 8)
    taken = torch.nonzero(mask).flatten()
    centre = set(range(60, 68))
    outside = sorted(set(taken.tolist()) - centre)
    assert centre <= set(taken.tolist())
    assert all((line - 64) % 4 == 0 for line in outside)
    assert len(taken) == 32 + 6  # two of the eight central lines are on the grid
    assert int(random_mask(128, 4, 8).sum()) == 32
    assert not torch.equal(random_mask(128, 4, 8, seed=1), random_mask(128, 4, 8, seed=2))


def test_masks_move_and_stop_early() -> None:
    assert torch.nonzero(equispaced_mask(12, 4, 0, offset=1))[:, 0].tolist() == [3, 7, 11]
    assert torch.nonzero(equispaced_mask(12, 4, 0, offset=-3))[:, 0].tolist() == [3, 7, 11]
    part = partial_fourier(torch.ones(3, 16), 0.75)
    assert part.sum(1).tolist() == [12, 12, 12]
    assert part[:, 12:].sum() == 0
    with pytest.raises(UserError, match=r"above 0\.5"):
        partial_fourier(part, 0.5)
