"""Compare drawn images with copies of a given image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from any2all_core.fitted import FittedMethod
from any2all_core.objective import validation_slices
from any2all_core.prior import Prior
from any2all_core.reconstruct import make_sampler, reconstruct
from any2all_data.metrics import at_best_scale, psnr
from any2all_operators import BlockDiagonal, Identity
from torch import Tensor

SLICES = 8
SAMPLER = "mds"
PRIOR, METHOD = f"one draw of this prior by {SAMPLER}", "the answer of this method"


class Nearness(NamedTuple):
    """PSNR in dB for a missing image.

    ``draw`` is that of a prior's draw by MDS, or of a method's answer. ``copy`` is that of a copy
    of the given image.
    """

    draw: float
    copy: float


def draw_nearness(prior: Prior, slices: Tensor) -> dict[str, dict[str, Nearness]]:
    """Return {given: {missing: Nearness}} of draws on slices that the prior was not trained on.

    ``slices`` are (N, M, H, W) in [0, 1], of which 8 are used, evenly spread. The PSNR is the mean
    over slices. Each is judged at its best scale, because a missing image's brightness is not known
    (see :func:`any2all_data.metrics.at_best_scale`).
    """

    def drawn(given: str, truth: Tensor) -> Tensor:
        data = {given: truth[:, prior.modalities.index(given)]}
        operator = BlockDiagonal({given: Identity()})
        return reconstruct(prior, operator, data, make_sampler(SAMPLER))[0]

    return _nearness(drawn, prior.modalities, slices)


def answer_nearness(fitted: FittedMethod, slices: Tensor) -> dict[str, dict[str, Nearness]]:
    """Return the same as :func:`draw_nearness` for the answers of a method that synthesises."""

    def answered(given: str, truth: Tensor) -> Tensor:
        return fitted.complete(truth, [given]).cpu()

    return _nearness(answered, fitted.modalities, slices)


def _nearness(
    made: Callable[[str, Tensor], Tensor], modalities: Sequence[str], slices: Tensor
) -> dict[str, dict[str, Nearness]]:
    """Compare with copies. ``made`` completes stacks (N, M, H, W), of which one image is given."""
    truth = validation_slices(slices, SLICES)
    found: dict[str, dict[str, Nearness]] = {}
    for g, given in enumerate(modalities):
        stacks, image = made(given, truth), truth[:, g]
        found[given] = {
            m: Nearness(_psnr(stacks[:, k], truth[:, k]), _psnr(image, truth[:, k]))
            for k, m in enumerate(modalities)
            if k != g
        }
    return found


def copy_is_nearer(
    found: Mapping[str, Mapping[str, tuple[float, float]]],
    missing: str,
    given: Collection[str],
    who: str = PRIOR,
) -> str | None:
    """Return a warning if a copy of a given image is nearer to the missing image than a draw.

    ``found`` is the result of :func:`draw_nearness`. ``who`` is PRIOR or METHOD, which made the
    images. Returns None if an image made from one of the given images is nearer than all copies,
    or if this was never measured.
    """
    of = _of_given(found, missing, given)
    if not of:
        return None
    best = max(of, key=lambda g: of[g].copy)
    draw = max(nearness.draw for nearness in of.values())
    if draw >= of[best].copy:
        return None
    return (
        f"on held-out patients a copy of {best} was nearer to it ({of[best].copy:.1f} dB at the "
        f"best scale) than {who} ({draw:.1f} dB). Do not trust its contrast or its detail"
    )


def quality_of(
    found: Mapping[str, Mapping[str, tuple[float, float]]],
    missing: str,
    given: Collection[str],
    who: str = PRIOR,
    *,
    with_copy: bool = True,
) -> str:
    """Return what held-out patients say of a missing image, which nobody can check on this patient.

    The arguments are those of :func:`copy_is_nearer`, whose warning it is if there is one.
    ``with_copy`` says whether a copy is worth a word; one of MR says nothing of CT in HU.
    """
    if warning := copy_is_nearer(found, missing, given, who):
        return warning
    of = _of_given(found, missing, given)
    if not of:
        return "how near such an image comes to the truth was not measured on held-out patients"
    best = max(of, key=lambda g: of[g].draw)
    beside = f", and a copy of {best} {of[best].copy:.1f} dB" if with_copy else ""
    return (
        f"on held-out patients {who} from {best} alone had {of[best].draw:.1f} dB at the best "
        f"scale{beside}. It can't show what the given images do not determine"
    )


def _of_given(
    found: Mapping[str, Mapping[str, tuple[float, float]]], missing: str, given: Collection[str]
) -> dict[str, Nearness]:
    """Return {given: Nearness} of the missing image, for the given images that were measured."""
    return {g: Nearness(*found[g][missing]) for g in given if missing in found.get(g, ())}


def _psnr(image: Tensor, truth: Tensor) -> float:
    """Return the mean PSNR over slices (B, H, W), each at its best scale."""
    pairs = zip(image.split(1), truth.split(1), strict=True)
    scaled = torch.cat([at_best_scale(one, other) for one, other in pairs])
    return round(float(psnr(scaled, truth).mean()), 2)
