"""The operator kspace where it is simulated."""

from __future__ import annotations

import pytest
import torch
from any2all_mri import KSpace
from any2all_mri.poisson import poisson_mask
from any2all_operators import SenseFourier, UserError


def test_simulated_noise_has_the_stated_size_where_sampled_only() -> None:
    operator = KSpace(noise_std=0.05).build(64, 64)
    assert isinstance(operator, SenseFourier)
    assert operator.acceleration == pytest.approx(64 / (16 + 6))
    zero = torch.zeros(2, 64, 64)
    y = operator.measure(zero, [torch.Generator().manual_seed(k) for k in range(2)])
    taken = y[..., operator.mask > 0]
    assert float(taken.real.std()) == pytest.approx(0.05, rel=0.03)
    assert float(taken.imag.std()) == pytest.approx(0.05, rel=0.03)
    assert not y[..., operator.mask == 0].any()


def test_a_poisson_disc_thins_out_from_the_centre() -> None:
    disc = poisson_mask(64, 48, 6, 8)
    assert disc[28:36, 20:28].all()
    assert 5 < disc.numel() / float(disc.sum()) < 7
    inner, outer = disc[16:48, 12:36], disc.clone()
    outer[16:48, 12:36] = 0
    assert inner.mean() > 2 * outer.sum() / (disc.numel() - inner.numel())
    scan = KSpace(mask="poisson", acceleration=6, partial_fourier=0.75).build(64, 48)
    assert isinstance(scan, SenseFourier)
    assert scan.mask.shape == (64, 48)
    assert scan.acceleration > 6
    with pytest.raises(UserError, match="Poisson disc of 16 x 16"):
        KSpace(mask="poisson", acceleration=30).build(16, 16)
