"""Whether a prior draws a missing image better than a copy of a given one would be."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from any2all_core.objective import validation_slices
from any2all_core.prior import Prior
from any2all_core.reconstruct import make_sampler, reconstruct
from any2all_data.metrics import at_best_scale, psnr
from any2all_operators import BlockDiagonal, Identity
from torch import Tensor

SLICES = 8
SAMPLER = "mds"


class Nearness(NamedTuple):
    """PSNR in dB of a missing image: of one draw by MDS, and of a copy of the given image."""

    draw: float
    copy: float


def beside_copies(prior: Prior, slices: Tensor) -> dict[str, dict[str, Nearness]]:
    """{given: {missing: Nearness}} on slices that the prior was not trained on.

    slices: (N, M, H, W) in [0, 1], of which 8 are taken, evenly spread. Means over slices, each at
    its best scale, as a missing image's brightness is not known (see
    :func:`any2all_data.metrics.at_best_scale`).
    """
    truth = validation_slices(slices, SLICES)
    found: dict[str, dict[str, Nearness]] = {}
    for g, given in enumerate(prior.modalities):
        image = truth[:, g]
        operator = BlockDiagonal({given: Identity()})
        drawn = reconstruct(prior, operator, {given: image}, make_sampler(SAMPLER))[0]
        found[given] = {
            m: Nearness(_psnr(drawn[:, k], truth[:, k]), _psnr(image, truth[:, k]))
            for k, m in enumerate(prior.modalities)
            if k != g
        }
    return found


def copy_is_nearer(
    found: Mapping[str, Mapping[str, tuple[float, float]]], missing: str, given: Collection[str]
) -> str | None:
    """What to tell a user whose missing image a copy of a given one would come nearer to.

    ``found``: as of :func:`beside_copies`. None where a draw from one of the given images is nearer
    than all copies, or nothing is known of it.
    """
    of = {g: Nearness(*found[g][missing]) for g in given if missing in found.get(g, ())}
    if not of:
        return None
    best = max(of, key=lambda g: of[g].copy)
    draw = max(nearness.draw for nearness in of.values())
    if draw >= of[best].copy:
        return None
    return (
        f"on held-out people a copy of {best} came nearer to it ({of[best].copy:.1f} dB at the "
        f"best scale) than one draw of this prior by {SAMPLER} ({draw:.1f} dB). Do not trust its "
        "contrast or its detail"
    )


def _psnr(image: Tensor, truth: Tensor) -> float:
    """Mean over (B, H, W), each at its best scale."""
    pairs = zip(image.split(1), truth.split(1), strict=True)
    scaled = torch.cat([at_best_scale(one, other) for one, other in pairs])
    return round(float(psnr(scaled, truth).mean()), 2)
