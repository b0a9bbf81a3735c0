"""Register a patient's images rigidly to one of them, by mutual information (ANTs).

Needs ``pip install 'any2all-data[registration]'``. Points are (3,) in mm, RAS as in NIfTI. The
table of kinds has the settings of each modality.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from any2all_core.modality_kind import ModalityKind
from any2all_operators import UserError
from nibabel.affines import apply_affine

from any2all_data.heads import (
    bias_corrected,
    coarse_head,
    contrast,
    head_mask,
    import_ants,
    inner_head,
)
from any2all_data.kinds import MR
from any2all_data.patient import LPS
from any2all_data.pose_search import found_poses
from any2all_data.resampling import Array, cubes, resampled, volume_of
from any2all_data.similarity import BINS, Similarity

__all__ = [
    "QUALITY_THRESHOLD",
    "Registered",
    "bias_corrected",
    "head_mask",
    "quality_threshold",
    "reference_grid",
    "register",
    "registration_quality",
    "resampled",
]


@dataclass(frozen=True)
class _Settings:
    """Settings for a pair of modalities.

    - ``threshold``: smallest accepted quality.
    - ``margin``: depth below the head's surface, in mm, that ANTs ignores.
    - ``voxels``: number of the reference's voxels at which ANTs compares the images.
    """

    threshold: float
    margin: float
    voxels: int


QUALITY_THRESHOLD = MR.threshold
"""Quality below which a registration of MR to MR is set aside for review."""
LEVELS: dict[str, Any] = {
    "aff_shrink_factors": (2, 1),
    "aff_smoothing_sigmas": (1, 0),
    "aff_iterations": (100, 50),
}
LOST = 0.95  # ANTs' pose is rejected if it keeps less than this share of its start's similarity
SAMPLES = 40_000  # points in the head at which the quality is measured


@dataclass(frozen=True)
class Registered:
    """An image on the grid of the reference.

    - ``image``: float32 on the grid.
    - ``matrix``: (4, 4), maps a point of the reference to one of the moving image, both in mm
      (RAS).
    - ``quality``: see :func:`registration_quality`. An image below :func:`quality_threshold` needs
      review.
    """

    image: nib.Nifti1Image
    matrix: Array
    quality: float


@dataclass(frozen=True)
class _Pair:
    """The reference and the moving image with the compared contrasts, and their head masks."""

    images: tuple[nib.Nifti1Image, nib.Nifti1Image]
    heads: tuple[nib.Nifti1Image, nib.Nifti1Image]
    settings: _Settings

    def similarity(self, seed: int, share_of_overlap: bool = False) -> Similarity:
        return Similarity(
            *self.images,
            self.heads[0],
            seed=seed,
            samples=SAMPLES,
            share_of_overlap=share_of_overlap,
        )


def reference_grid(
    image: nib.Nifti1Image,
    spacing: tuple[float, float, float],
    shape: tuple[int, int, int],
    kind: ModalityKind = MR,
) -> nib.Nifti1Image:
    """Resample the reference to ``shape`` (x, y, z) voxels of ``spacing`` mm, float32.

    The axes are those of the scan, in the order and direction of AXES (x to L, y to P, z to S), so
    an oblique scan keeps its slices. The grid is centred on the box around the head. If the head
    with the neck is taller than the grid, its top is kept. The image is smoothed before it is
    coarsened.

    Raises UserError if the image is not 3D or finite, or the grid is empty.
    """
    if len(spacing) != 3 or len(shape) != 3 or min(spacing) <= 0 or min(shape) < 1:
        raise UserError(
            f"spacing {spacing} mm, shape {shape}; expected three positive numbers each (x, y, z)"
        )
    head = coarse_head(image, kind)
    inside = np.argwhere(np.asarray(head.dataobj))
    low, high = inside.min(0), inside.max(0)
    centre = (low + high) / 2
    voxel = np.linalg.norm(head.affine[:3, 0])
    tall = spacing[2] * shape[2] / voxel
    centre[2] = max(centre[2], high[2] - (tall - 1) / 2)
    affine = np.eye(4)
    affine[:3, :3] = head.affine[:3, :3] / voxel * spacing
    affine[:3, 3] = apply_affine(head.affine, centre)
    affine[:3, 3] -= affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return resampled(image, affine, shape)


def register(
    moving: nib.Nifti1Image,
    reference: nib.Nifti1Image,
    grid: nib.Nifti1Image,
    seed: int = 0,
    *,
    kinds: tuple[ModalityKind, ModalityKind] = (MR, MR),
) -> Registered:
    """Register an image rigidly to the reference and resample it once, to ``grid``.

    :func:`any2all_data.pose_search.found_poses` searches poses globally. ANTs refines the one with
    the largest normalised mutual information, or the scanner's pose if that has more. ANTs
    maximises Mattes' mutual information over the head of the reference at the images' own
    resolution (cubes of at least 1 mm, cubic splines). Its result is rejected if it has clearly
    less normalised mutual information than its start.

    ``grid`` is an image in the reference's space (see :func:`reference_grid`). Only its affine and
    its shape are used. ``kinds`` are those of the moving image and of the reference. Voxels outside
    of the scan get the image's smallest value.

    The same seed gives the same bytes with one thread. One thread is requested from ITK unless
    ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS is set. Temporary files are removed.

    Raises UserError if an image is constant, not 3D or not finite, or if ANTs fails.

    Sources: Mattes et al. 2003, doi 10.1109/TMI.2003.809072; Avants et al. 2014,
    doi 10.3389/fninf.2014.00044.
    """
    pair = _pair(moving, reference, kinds)
    poses = found_poses(pair.images, pair.heads, seed)
    similarity = pair.similarity(seed, share_of_overlap=True)
    best = max((np.eye(4), *poses), key=similarity)
    refined = _refined(pair, best, seed)
    matrix = refined if similarity(refined) >= LOST * similarity(best) else best
    image = resampled(moving, matrix @ grid.affine, grid.shape, grid.affine)
    return Registered(image, matrix, pair.similarity(seed).quality(matrix))


def registration_quality(
    moving: nib.Nifti1Image,
    reference: nib.Nifti1Image,
    matrix: Array,
    seed: int = 0,
    *,
    kinds: tuple[ModalityKind, ModalityKind] = (MR, MR),
) -> float:
    """Measure how much better a pose is than the poses around it, in [−1, 1].

    quality = min over p of 1 − S(matrix p) / S(matrix). S is the normalised mutual information
    (H(a) + H(b)) / H(a, b) − 1 at 40,000 points in the head of the reference. The perturbations p
    are shifts by 5 mm and turns by 5° about the head's centre, in both directions along each axis
    and each diagonal. The quality is at most 0 if a neighbouring pose is better, and about 0 if the
    images share no information.

    ``matrix`` (4, 4) maps mm of the reference to mm of the moving image (RAS). ``kinds`` are those
    of the moving image and of the reference. :func:`quality_threshold` gives the smallest accepted
    quality for them.
    """
    return _pair(moving, reference, kinds).similarity(seed).quality(matrix)


def quality_threshold(kinds: Sequence[ModalityKind]) -> float:
    """Return the quality below which a registration of two kinds is set aside for review."""
    return _settings(kinds).threshold


def _settings(kinds: Sequence[ModalityKind]) -> _Settings:
    return _Settings(
        max(kind.threshold for kind in kinds),
        min(kind.margin for kind in kinds),
        min(kind.voxels for kind in kinds),
    )


def _pair(
    moving: nib.Nifti1Image,
    reference: nib.Nifti1Image,
    kinds: tuple[ModalityKind, ModalityKind],
) -> _Pair:
    heads = coarse_head(reference, kinds[1]), coarse_head(moving, kinds[0])
    fixed = cubes(contrast(reference, kinds[1], heads[0]))
    move = cubes(contrast(moving, kinds[0], heads[1]))
    return _Pair((fixed, move), heads, _settings(kinds))


def _refined(pair: _Pair, start: Array, seed: int) -> Array:
    """Refine a pose with ANTs. It is (4, 4), from mm of the reference to mm of the moving image."""
    ants = import_ants()
    mask = inner_head(pair.heads[0], pair.settings.margin)
    cube = abs(np.linalg.det(mask.affine) / np.linalg.det(pair.images[0].affine))
    rate = min(1.0, pair.settings.voxels / float(np.sum(mask.dataobj) * cube))
    ants.config.set_ants_deterministic(False, seed + 1)  # ITK takes the seed 0 from the clock
    try:
        with tempfile.TemporaryDirectory() as folder:
            images = [_to_ants(image) for image in (*pair.images, mask)]
            return _rigid(images, start, rate, Path(folder))
    except RuntimeError as error:
        raise UserError(
            f"ANTs could not register the pair ({error}); look at both images"
        ) from None
    finally:
        ants.config.set_ants_deterministic(False, None)


def _rigid(images: Sequence[Any], start: Array, rate: float, folder: Path) -> Array:
    ants = import_ants()
    fixed, moving, mask = images
    lps = LPS @ start @ LPS
    first = ants.create_ants_transform(
        "AffineTransform", matrix=lps[:3, :3], translation=lps[:3, 3], precision="double"
    )
    ants.write_transform(first, str(folder / "start.mat"))
    found = ants.registration(
        fixed,
        moving,
        "Rigid",
        outprefix=str(folder / "found"),
        initial_transform=str(folder / "start.mat"),
        mask=mask,
        aff_metric="mattes",
        aff_sampling=BINS,
        aff_random_sampling_rate=rate,  # a regular raster with random offsets by the seed
        smoothing_in_mm=True,
        singleprecision=False,
        **LEVELS,
    )
    transform = ants.read_transform(found["fwdtransforms"][0])
    lps = np.eye(4)
    lps[:3, :3] = np.array(transform.parameters[:9]).reshape(3, 3)
    centre = np.array(transform.fixed_parameters)
    lps[:3, 3] = np.array(transform.parameters[9:]) + centre - lps[:3, :3] @ centre
    return LPS @ lps @ LPS


def _to_ants(image: nib.Nifti1Image) -> Any:
    affine = LPS @ image.affine
    voxels = np.linalg.norm(affine[:3, :3], axis=0)
    return import_ants().from_numpy(
        volume_of(image),
        origin=affine[:3, 3].tolist(),
        spacing=voxels.tolist(),
        direction=affine[:3, :3] / voxels,
    )
