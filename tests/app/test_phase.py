"""Samplers and the trust in a prior where the phase of a scan is unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from any2all_app.trust import Trust, blended, trust
from any2all_core import GaussianPrior, make_sampler, reconstruct
from any2all_core.prior_settings import Levels
from any2all_mri import birdcage_maps
from any2all_mri.phase import SimulatedPhase, simulated_phase
from any2all_operators import (
    BlockDiagonal,
    Operator,
    SenseFourier,
    UnknownPhase,
    equispaced_mask,
)
from builders.phase import NOISE, SIZE, images
from torch import Tensor

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("sampler", ["mds", "mps", "mmps", "mcs"])
def test_samplers_find_the_phase_with_the_image(sampler: str) -> None:
    truth = images()[:1, ::2, ::2]
    size = (SIZE // 2, SIZE // 2)
    blurred = torch.nn.functional.avg_pool2d(truth[None], 5, 1, 2, count_include_pad=False)[0]
    covariance = 0.04 * torch.eye(SIZE**2 // 4)
    levels: Levels = "separate" if sampler == "mcs" else "shared"
    prior = GaussianPrior(("T1",), 2 * blurred - 1, covariance, levels=levels)
    phase = simulated_phase("rough", *size, seed=3) - simulated_phase("smooth", *size, seed=3)
    scan = SenseFourier(birdcage_maps(6, *size), equispaced_mask(24, 2, 8), NOISE, True)
    (y,) = SimulatedPhase(scan, phase).measure(truth, [torch.Generator().manual_seed(1)])

    def error(operator: Operator) -> float:
        draw = make_sampler(sampler)
        image = reconstruct(prior, BlockDiagonal({"T1": operator}), {"T1": y[None]}, draw)
        return float((image[0, :, 0] - truth).square().mean().sqrt())

    ignored = error(replace(scan, complex_image=False))
    assert error(UnknownPhase(scan)) < 0.5 * ignored


def test_a_prior_that_does_not_help_gives_way() -> None:
    """A prior that is sure of another image: the classical one takes its place, which is said."""
    truth = images()[:, ::2, ::2]
    size = (SIZE // 2, SIZE // 2)
    phase = simulated_phase("rough", *size, seed=3) - simulated_phase("smooth", *size, seed=3)
    scan = SenseFourier(birdcage_maps(6, *size), equispaced_mask(24, 2, 8), NOISE, True)
    data = SimulatedPhase(scan, phase).measure(
        truth, [torch.Generator().manual_seed(k) for k in (1, 2)]
    )
    found = UnknownPhase(scan)
    covariance = 0.001 * torch.eye(SIZE**2 // 4)

    def judge(mean: Tensor) -> tuple[Trust, Tensor]:
        prior = GaussianPrior(("T1",), 2 * mean - 1, covariance)
        block = BlockDiagonal({"T1": found})
        judged = trust(prior, block, {"T1": data}, "T1", seed=0)
        assert judged is not None
        return judged, reconstruct(prior, block, {"T1": data})[:, :, 0]

    wrong, draws = judge(truth[:1].flip(-1))
    assert wrong.prior > wrong.best.error > wrong.noise
    assert wrong.share < 0.5
    assert "The prior does not help on this scan" in wrong.sentence
    mixed = blended(wrong, found, data, draws)
    assert (mixed[0] - truth).norm() < 0.8 * (draws[0] - truth).norm()

    right, draws = judge(truth[:1])
    assert right.prior < right.best.error
    assert "The prior helps on this scan" in right.sentence
    assert blended(right, found, data, draws) is draws
    assert right.report()["rest"] is None
