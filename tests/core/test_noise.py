"""Noise by seed, slice and draw."""

from __future__ import annotations

import pytest
import torch
from any2all_core import (
    Noise,
)
from any2all_core.noise import generator


def test_noise_belongs_to_seed_slice_and_draw() -> None:
    both = Noise([generator(0, 1, 0), generator(0, 2, 0)], (2, 4, 4))()
    assert torch.equal(both[1], Noise([generator(0, 2, 0)], (2, 4, 4))()[0])
    assert not torch.equal(both[0], both[1])


def test_noise_is_alike_through_the_slices() -> None:
    """Correlated as documented, of unit variance, and a slice's own in any company."""
    entries = [(k, draw) for draw in (0, 1) for k in range(12)]
    z = Noise.of_slices(3, entries, (2, 64, 64), through=2.0)()
    found = torch.corrcoef(z.flatten(1))
    slices = torch.arange(12.0)
    expected = torch.exp(-((slices[:, None] - slices) ** 2) / (2 * 2.0**2))
    torch.testing.assert_close(found[:12, :12], expected, atol=0.05, rtol=0)
    assert float(found[:12, 12:].abs().max()) < 0.05
    assert float(z.std()) == pytest.approx(1, abs=0.02)
    alone = Noise.of_slices(3, [(5, 1)], (2, 64, 64), through=2.0)()
    torch.testing.assert_close(alone[0], z[12 + 5])
