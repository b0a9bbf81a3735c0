"""A rigid pose from far away: a lattice of poses by mutual information, the best of them climbed.

Nothing here depends on where the scanner had the head: shifts of the whole field of view, turns to
about 30° and scans of a part of the head are within reach. It ends within about 2 mm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from any2all_data.resampling import Array, cubes
from any2all_data.similarity import Similarity, rigid_move

COARSEST, COARSE = 8.0, 4.0  # mm
HEIGHTS = tuple(range(-60, 61, 15))
"""mm, from head on head: a scan of a part of the head has its centre elsewhere."""
TURNS = tuple(product((-20, 0, 20), (-12, 0, 12), (-20, 0, 20)))
"""Degrees about x (nodding), y and z."""
AIR = 4  # cubes of 4 mm around the head, whose outline counts as well
KEPT, CLIMBED_ON = 8, 4
APART = 12.0  # mm, of the poses that are kept
EVALUATIONS = 150  # a climb


def found_poses(
    images: tuple[nib.Nifti1Image, nib.Nifti1Image],
    heads: tuple[nib.Nifti1Image, nib.Nifti1Image],
    seed: int,
) -> list[Array]:
    """Poses (4, 4), reference's mm to moving image's mm, the best first.

    images, heads: of the reference and of the moving image, the heads on cubes of 4 mm.
    """
    fixed, moving = (cubes(image, COARSE) for image in images)
    rough = cubes(fixed, COARSEST), cubes(moving, COARSEST)
    around = _grown(heads[0])
    figure = Similarity(rough[0], rough[1], around, seed=seed, samples=3000, share_of_overlap=True)
    plain = [rigid_move(shift, np.zeros(3), np.zeros(3)) for shift in _shifts(heads, (0,))]
    ranked = sorted(_lattice(heads), key=figure, reverse=True)
    poses = climbed([*plain, *_kept(ranked, figure.points[::30])], figure, (14.0, 7.0))
    figure = Similarity(fixed, moving, around, seed=seed, samples=6000, share_of_overlap=True)
    best = sorted(poses, key=figure, reverse=True)[:CLIMBED_ON]  # wrong ones look good when blurred
    poses = climbed(best, figure, (8.0, 4.0))
    # the share of overlap draws the last millimetres towards where more is covered
    fine = Similarity(fixed, moving, heads[0], seed=seed, samples=10_000)
    return climbed(poses, fine, (4.0,))


def climbed(poses: Sequence[Array], figure: Similarity, steps: Sequence[float]) -> list[Array]:
    """Each pose after a climb of each step (mm and degrees), by the figure, the best first."""
    for step in steps:
        poses = [_climb(pose, figure, step) for pose in poses]
    return sorted(poses, key=figure, reverse=True)


def _shifts(heads: Sequence[nib.Nifti1Image], heights: Sequence[float]) -> list[Array]:
    """As the scanner has them, and head on head at these heights, mm."""
    here, there = (_centre(head) for head in heads)
    return [np.zeros(3), *(there - here + (0, 0, height) for height in heights)]


def _lattice(heads: Sequence[nib.Nifti1Image]) -> Iterator[Array]:
    """Each of the shifts with each of the turns about the head."""
    for shift, turn in product(_shifts(heads, HEIGHTS), TURNS):
        yield rigid_move(shift, np.array(turn, float), _centre(heads[0]))


def _centre(head: nib.Nifti1Image) -> Array:
    return np.asarray(apply_affine(head.affine, np.argwhere(np.asarray(head.dataobj)).mean(0)))


def _kept(poses: Sequence[Array], points: Array) -> list[Array]:
    """The first KEPT of them that take the points to places APART mm from each other."""
    kept: list[Array] = []
    for pose in poses:
        there = apply_affine(pose, points)
        gaps = [np.linalg.norm(there - apply_affine(k, points), axis=1).mean() for k in kept]
        if all(gap > APART for gap in gaps):
            kept.append(pose)
        if len(kept) == KEPT:
            break
    return kept


def _climb(pose: Array, figure: Similarity, step: float) -> Array:
    """Nelder and Mead's simplex of three shifts and three turns."""
    from scipy.optimize import minimize

    def moved(v: Array) -> Array:
        return pose @ rigid_move(v[:3], v[3:], figure.centre)

    best = minimize(
        lambda v: -figure(moved(v)),
        np.zeros(6),
        method="Nelder-Mead",
        options={
            "initial_simplex": np.vstack([np.zeros(6), step * np.eye(6)]),
            "maxfev": EVALUATIONS,
            "xatol": 0.1,
            "fatol": 1e-5,
        },
    )
    return moved(best.x)


def _grown(head: nib.Nifti1Image) -> nib.Nifti1Image:
    from scipy import ndimage

    near = ndimage.binary_dilation(np.asarray(head.dataobj) > 0, iterations=AIR)
    return nib.Nifti1Image(near.astype(np.uint8), head.affine)
