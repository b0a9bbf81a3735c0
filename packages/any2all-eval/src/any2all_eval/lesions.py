"""Lesions that a result lost, and bright spots that it invented.

τ is the level halfway between the median of the truth in the marked lesion and in the rest of the
head. In a slice, a connected region of at least AREA mm² counts as one spot:

- a **lesion** is a spot of the mask of which at least half is above τ in the truth; it is *lost* if
  less than a fifth of it is above τ in the result;
- an **invented** spot is a spot above τ in the result, inside the head, none of whose pixels lies
  within NEAR pixels of the mask or of a pixel above τ in the truth.

This rule compares results on images that show lesions bright, such as FLAIR. It does not read an
image as a radiologist would.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

AREA = 50.0
SEEN, LOST = 0.5, 0.2
NEAR = 3
SHOWS_LESIONS = "FLAIR"


@dataclass(frozen=True)
class Spots:
    """The spots of one slice: their areas in mm²."""

    lesions: list[float]
    lost: list[float]
    invented: list[float]


def spots(
    image: Tensor, truth: Tensor, lesion: Tensor, head: Tensor, *, pixel: float
) -> list[Spots] | None:
    """The spots of each slice (B, H, W); lesion, head: bool. None without a mask: τ is unknown."""
    lesion = lesion & head
    rest = head & ~lesion
    if not lesion.any() or not rest.any():
        return None
    level = float(truth[lesion].median() + truth[rest].median()) / 2
    found = []
    for u, x, marked, inside in zip(image, truth, lesion, head, strict=True):
        bright, seen = ((v > level).numpy() for v in (u, x))
        lesions, lost = [], []
        for spot in pieces(marked.numpy(), pixel):
            if seen[spot].mean() < SEEN:
                continue
            lesions.append(float(spot.sum()) * pixel)
            if bright[spot].mean() < LOST:
                lost.append(lesions[-1])
        near = ndimage.binary_dilation(seen | marked.numpy(), iterations=NEAR)
        new = [s for s in pieces(bright & inside.numpy(), pixel) if not near[s].any()]
        found.append(Spots(lesions, lost, [float(s.sum()) * pixel for s in new]))
    return found


def pieces(mask: NDArray[np.bool_], pixel: float) -> list[NDArray[np.bool_]]:
    """The connected parts of a mask (H, W) of at least AREA mm², each as a mask."""
    labels, count = ndimage.label(mask)
    parts = [labels == k for k in range(1, count + 1)]
    return [part for part in parts if part.sum() * pixel >= AREA]
