"""The ICBM-152 tissue maps, and distances to the surfaces in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter, label

from any2all_virtual.shapes import ellipsoid, signed_distance
from any2all_virtual.space import Array, Grid

CLOSING = 12.0  # mm: gaps of the brain up to twice that are cisterns, wider ones skull base
VAULT = 9.0  # mm, σ
MARGIN = 24  # mm around the template


@dataclass(frozen=True)
class Atlas:
    """Grey and white matter probability at 1 mm, and signed distances at 2 mm.

    Distances are in mm and negative inside. ``cranium`` is the surface of the closed brain,
    ``vault`` the same surface smoothed like the outside of a skull, and ``ventricles`` that of the
    lateral ventricles.
    """

    fine: Grid
    coarse: Grid
    brain: Array
    grey: Array
    white: Array
    cranium: Array
    vault: Array
    ventricles: Array


@lru_cache(maxsize=1)
def icbm152() -> Atlas:
    """Load ICBM-152 2009a symmetric (Fonov 2011) from nilearn; cached in each process."""
    from nilearn import datasets  # takes a second

    images = [
        datasets.load_mni152_brain_mask(resolution=1),
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
    ]
    brain, grey, white = (
        np.pad(np.asarray(image.dataobj, np.float32), [(MARGIN, MARGIN + 1)] * 3)
        for image in images
    )
    x, y, z = (float(o) - MARGIN for o in images[0].affine[:3, 3])
    fine = Grid(brain.shape, (1.0, 1.0, 1.0), (x, y, z))
    inside = brain[::2, ::2, ::2] > 0.5
    coarse = Grid(inside.shape, (2.0, 2.0, 2.0), fine.origin)
    grown = signed_distance(inside, 2) < CLOSING
    cranium = signed_distance(grown, 2) + np.float32(CLOSING)
    points = coarse.points()
    cistern = ellipsoid(points, (0, 2, -18), (19, 17, 9))
    sphenoid = ellipsoid(points, (0, 24, -44), (16, 36, 14))
    cranium = np.maximum(np.minimum(cranium, cistern), -sphenoid)
    vault = gaussian_filter(cranium, VAULT / 2)
    px, py, pz = points
    liquid = (brain - grey - white)[::2, ::2, ::2] > 0.5
    horns = liquid & (cranium < -20) & (abs(px) > 3) & (abs(px) < 36) & (abs(pz - 10) < 22)
    parts, _ = label(horns & (py < 36) & (py > -60))
    largest = np.argsort(np.bincount(parts.ravel())[1:])[-2:] + 1  # left and right
    ventricles = signed_distance(np.isin(parts, largest), 2)
    return Atlas(fine, coarse, brain, grey, white, cranium, vault, ventricles)
