"""MMPS, against a prior for which the posterior is known in closed form."""

from __future__ import annotations

import pytest
import torch
from any2all_core import (
    reconstruct,
    simulate,
)
from any2all_core.noise import generator
from any2all_core.oracle import cases, mode_shares, posterior_error
from any2all_operators import BlockDiagonal, Identity
from any2all_samplers import MMPS
from any2all_samplers.mmps import flatten, unflatten
from builders.samplers import SIZE, two_correlated_images
from builders.scans import cartesian_scan


@pytest.mark.slow
@pytest.mark.parametrize("case", list(cases()))
def test_mmps_draws_from_the_posterior(case: str) -> None:
    """Mean and spread, whatever is known; the mean within a share of the standard deviation."""
    found = posterior_error(MMPS(), cases()[case], draws=128)
    assert found
    for image in found.values():
        assert image.bias < 0.13
        assert image.spread == pytest.approx(1, abs=0.08)


def test_mmps_takes_the_data_in_any_order() -> None:
    prior = two_correlated_images()
    truth = prior.draw(1, generator(7))
    scan = cartesian_scan(SIZE, acceleration=2, coils=2, acs_lines=2)
    operator = BlockDiagonal({"T1": Identity(), "FLAIR": scan})
    data = simulate(operator, truth)
    turned = dict(reversed(data.items()))
    one, other = (reconstruct(prior, operator, y, MMPS(4)) for y in (data, turned))
    assert torch.equal(one, other)


def test_data_as_vectors_and_back() -> None:
    """Also where real data of odd length lies before complex data."""
    data = {"A": torch.rand(2, 3, 7), "B": torch.zeros(2, 0), "C": torch.randn(2, 5) * (1 + 1j)}
    back = unflatten(flatten(data), data)
    assert list(back) == list(data)
    for name, y in data.items():
        assert torch.equal(back[name], y)


def test_mmps_bears_a_network_whose_error_is_no_covariance() -> None:
    """A network's Jacobian may be indefinite, where conjugate gradients would divide by nothing."""
    prior = two_correlated_images()
    denoise = prior.denoise
    turn = 1 - 2 * (torch.arange(SIZE) % 2)
    prior.denoise = lambda x_t, t: denoise(x_t, t) * turn  # type: ignore[method-assign]
    t1 = prior.draw(2, generator(7))[:, 0]
    drawn = reconstruct(prior, BlockDiagonal({"T1": Identity()}), {"T1": t1}, MMPS(10))
    assert bool(torch.isfinite(drawn).all())


@pytest.mark.slow
def test_mmps_gives_each_mode_its_share() -> None:
    pairs = mode_shares(MMPS(), draws=128)
    assert {exact > 0.5 for exact, _ in pairs} == {True, False}
    for exact, found in pairs:
        assert found == pytest.approx(exact, abs=0.15)
