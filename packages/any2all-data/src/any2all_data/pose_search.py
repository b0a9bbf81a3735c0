"""Search a rigid pose globally: rank a lattice of poses by mutual information, and refine the best.

The search does not depend on the head's position in the scanner. It finds shifts by the whole field
of view, turns up to about 30°, and scans of a part of the head. It ends within about 2 mm.
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
"""Shifts in mm along z from matching centres, because part of a head has its centre elsewhere."""
TURNS = tuple(product((-20, 0, 20), (-12, 0, 12), (-20, 0, 20)))
"""Turns in degrees about x (nodding), y and z."""
AIR = 4  # cubes of 4 mm around the head that are also compared, so that its outline counts
KEPT, REFINED = 8, 4  # poses kept from the lattice, and after the first refinement
APART = 12.0  # mm between the poses that are kept
EVALUATIONS = 150  # of the similarity in one refinement of a pose


def found_poses(
    images: tuple[nib.Nifti1Image, nib.Nifti1Image],
    heads: tuple[nib.Nifti1Image, nib.Nifti1Image],
    seed: int,
) -> list[Array]:
    """Return poses (4, 4) from mm of the reference to mm of the moving image, the best first.

    ``images`` and ``heads`` are those of the reference and of the moving image. The masks of the
    heads are on cubes of 4 mm.
    """
    fixed, moving = (cubes(image, COARSE) for image in images)
    rough = cubes(fixed, COARSEST), cubes(moving, COARSEST)
    around = _grown(heads[0])
    similarity = Similarity(
        rough[0], rough[1], around, seed=seed, samples=3000, share_of_overlap=True
    )
    plain = [rigid_move(shift, np.zeros(3), np.zeros(3)) for shift in _shifts(heads, (0,))]
    ranked = sorted(_lattice(heads), key=similarity, reverse=True)
    poses = refined([*plain, *_kept(ranked, similarity.points[::30])], similarity, (14.0, 7.0))
    similarity = Similarity(fixed, moving, around, seed=seed, samples=6000, share_of_overlap=True)
    best = sorted(poses, key=similarity, reverse=True)[:REFINED]  # a coarse grid favours wrong ones
    poses = refined(best, similarity, (8.0, 4.0))
    # without the share of overlap, which biases the last millimetres towards more coverage
    fine = Similarity(fixed, moving, heads[0], seed=seed, samples=10_000)
    return refined(poses, fine, (4.0,))


def refined(poses: Sequence[Array], similarity: Similarity, steps: Sequence[float]) -> list[Array]:
    """Refine each pose with each step size (mm and degrees), and sort by similarity, best first."""
    for step in steps:
        poses = [_maximise(pose, similarity, step) for pose in poses]
    return sorted(poses, key=similarity, reverse=True)


def _shifts(heads: Sequence[nib.Nifti1Image], heights: Sequence[float]) -> list[Array]:
    """Return no shift, and the shifts that match the centres of the heads, at each height in mm."""
    here, there = (_centre(head) for head in heads)
    return [np.zeros(3), *(there - here + (0, 0, height) for height in heights)]


def _lattice(heads: Sequence[nib.Nifti1Image]) -> Iterator[Array]:
    """Yield the poses of each shift with each turn about the head."""
    for shift, turn in product(_shifts(heads, HEIGHTS), TURNS):
        yield rigid_move(shift, np.array(turn, float), _centre(heads[0]))


def _centre(head: nib.Nifti1Image) -> Array:
    return np.asarray(apply_affine(head.affine, np.argwhere(np.asarray(head.dataobj)).mean(0)))


def _kept(poses: Sequence[Array], points: Array) -> list[Array]:
    """Return the first KEPT poses that move the points more than APART mm from each other."""
    kept: list[Array] = []
    for pose in poses:
        there = apply_affine(pose, points)
        gaps = [np.linalg.norm(there - apply_affine(k, points), axis=1).mean() for k in kept]
        if all(gap > APART for gap in gaps):
            kept.append(pose)
        if len(kept) == KEPT:
            break
    return kept


def _maximise(pose: Array, similarity: Similarity, step: float) -> Array:
    """Maximise the similarity over three shifts and three turns, by Nelder and Mead's simplex."""
    from scipy.optimize import minimize

    def moved(v: Array) -> Array:
        return pose @ rigid_move(v[:3], v[3:], similarity.centre)

    best = minimize(
        lambda v: -similarity(moved(v)),
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
