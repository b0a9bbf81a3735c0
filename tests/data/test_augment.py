"""Augmentation."""

from __future__ import annotations

import torch
from any2all_core.noise import generator
from any2all_data.augment import augment


def test_augmentation_moves_all_modalities_together() -> None:
    x = torch.rand(8, 1, 32, 32).repeat(1, 3, 1, 1)
    y = augment(x, [generator(0, k) for k in range(8)])
    assert y.shape == x.shape
    assert 0 <= float(y.min()) <= float(y.max()) <= 1
    assert not torch.equal(x, y)
    # a slice's changes are its own: the same alone, or elsewhere in a batch
    again = augment(x[5:6], [generator(0, 5)])
    assert torch.allclose(y[5:6], again, atol=1e-6)
    # contrast differs between modalities, position does not: ranks of pixels agree
    a, b = y[0, 0].flatten().argsort(), y[0, 1].flatten().argsort()
    assert float((a == b).float().mean()) > 0.95


def test_augmentation_leaves_values_in_units() -> None:
    x = torch.full((4, 2, 16, 16), 0.8)
    y = augment(x, [generator(0, k) for k in range(4)], in_units=[False, True])
    assert torch.allclose(y[:, 1, 8, 8], x[:, 1, 8, 8])
    assert (y[:, 0, 8, 8] - 0.8).abs().min() > 1e-3
