"""What a method is given: a scan, clean guides, and random subsets of images in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from any2all_operators import Operator
from torch import Tensor

NOTHING_GIVEN = 0.05
"""Share of the training examples in which no image is given, for methods that generate."""


@dataclass(frozen=True)
class Scan:
    """The measurement y = A x + n of one image.

    Parameters
    ----------
    data
        y, (B, ...).
    operator
        A.
    place
        Channel of the modality in the stack.
    """

    data: Tensor
    operator: Operator
    place: int


@dataclass(frozen=True)
class Guides:
    """The clean images that guide a reconstruction.

    Parameters
    ----------
    images
        (B, M, H, W) in [0, 1]; 0 where ``available`` is False.
    available
        (B, M), whether the image is given.
    """

    images: Tensor
    available: Tensor


def proper_subsets(
    present: Tensor,
    generators: Sequence[torch.Generator],
    nothing: bool = False,
    most_missing: int | None = None,
) -> Tensor:
    """Draw proper, non-empty subsets of the ``present`` images, (B, M), uniformly.

    With ``nothing``, the subset is empty with probability NOTHING_GIVEN. At most ``most_missing``
    of the present images are left out. If a patient has one image, the subset is empty.
    """
    chosen = torch.zeros_like(present)
    for b, g in enumerate(generators):
        there = present[b].nonzero().flatten().tolist()
        empty = bool(torch.rand(1, generator=g) < NOTHING_GIVEN) and nothing
        draw = float(torch.rand(1, generator=g, dtype=torch.float64))
        most = len(there) - 1 if most_missing is None else min(most_missing, len(there) - 1)
        sets = [s for n in range(1, most + 1) for s in combinations(there, len(there) - n)]
        if sets and not empty:
            chosen[b, list(sets[int(draw * len(sets))])] = True
    return chosen
