"""A patient's images moved rigidly onto one of them, by mutual information (ANTs).

Needs ``pip install 'any2all-data[registration]'``. Points are (3,) in mm, RAS as in NIfTI.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from any2all_operators import UserError
from nibabel.affines import apply_affine

from any2all_data.patient import LPS, oriented

Array = npt.NDArray[Any]
QUALITY_THRESHOLD = 0.04
"""Quality below which a registration is set aside for a human's look; docs/registration.md."""
FINEST = 1.0  # mm; the poses are found on cubes no smaller than this
HEAD = 4.0  # mm; and the head's outline on cubes of this
COARSE: dict[str, Any] = {
    "aff_shrink_factors": (8, 4),
    "aff_smoothing_sigmas": (4, 2),
    "aff_iterations": (200, 100),
}
FINE: dict[str, Any] = {
    "aff_shrink_factors": (2, 1),
    "aff_smoothing_sigmas": (1, 0),
    "aff_iterations": (100, 50),
}
FINE_SAMPLES = 250_000  # the coarse levels take every voxel
MARGIN = 10.0  # mm; skin slides over bone, and its fat is displaced by the chemical shift
SAME_START = 10.0  # mm; starts nearer to each other than this lead to the same pose
BINS = 32
SAMPLES = 40_000  # points in the head at which the quality is measured
PERTURBATION = 5.0  # mm and degrees


@dataclass(frozen=True)
class Registered:
    """An image on the grid of the reference.

    ``image``: float32 on the grid; ``matrix``: (4, 4), a point of the reference in mm (RAS) to the
    point of the moving image in mm (RAS); ``quality``: see :func:`registration_quality`, below
    QUALITY_THRESHOLD for a human's look.
    """

    image: nib.Nifti1Image
    matrix: Array
    quality: float


def reference_grid(
    image: nib.Nifti1Image, spacing: tuple[float, float, float], shape: tuple[int, int, int]
) -> nib.Nifti1Image:
    """The reference on ``shape`` (x, y, z) voxels of ``spacing`` mm, float32.

    The axes are those of the scan itself, put in the order and direction of AXES (x to L, y to P,
    z to S): an oblique scan keeps its slices. The grid's centre is that of the box around the head;
    where the head (with neck) is taller than the grid, its top is kept. What coarsens is smoothed
    first. Raises UserError for an image that is not 3D or finite, or a grid of nothing.
    """
    if len(spacing) != 3 or len(shape) != 3 or min(spacing) <= 0 or min(shape) < 1:
        raise UserError(
            f"spacing {spacing} mm, shape {shape}; expected three positive numbers each (x, y, z)"
        )
    cubes = _head(image)
    inside = np.argwhere(np.asarray(cubes.dataobj))
    low, high = inside.min(0), inside.max(0)
    centre = (low + high) / 2
    voxel = np.linalg.norm(cubes.affine[:3, 0])
    tall = spacing[2] * shape[2] / voxel
    centre[2] = max(centre[2], high[2] - (tall - 1) / 2)
    affine = np.eye(4)
    affine[:3, :3] = cubes.affine[:3, :3] / voxel * spacing
    affine[:3, 3] = apply_affine(cubes.affine, centre)
    affine[:3, 3] -= affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return resampled(image, affine, shape)


def register(
    moving: nib.Nifti1Image, reference: nib.Nifti1Image, grid: nib.Nifti1Image, seed: int = 0
) -> Registered:
    """Move an image rigidly onto the reference and resample it once, onto ``grid``.

    The pose maximises Mattes' mutual information over the head of the reference. It is sought by
    ANTs on the images' own resolution (cubes of at least 1 mm, cubic splines), from two starts: as
    the scanner has them, and centre of mass on centre of mass. ``grid`` is an image of the
    reference's space (see :func:`reference_grid`), of which only the affine and the shape count.
    Values outside what was scanned are the image's least. One and the same seed gives the same
    bytes with one thread, which is what this asks ITK for unless
    ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS says otherwise. Temporary files are removed.

    Raises UserError for an image that is not 3D or finite, or is constant, and when ANTs fails.
    Source: Mattes et al. 2003, doi 10.1109/TMI.2003.809072; Avants et al. 2014,
    doi 10.3389/fninf.2014.00044.
    """
    ants = _ants()
    fixed, move = _cubes(reference), _cubes(moving)
    head = _head(reference)
    inner = _inner(head)
    images = [_to_ants(image) for image in (fixed, move, inner)]
    voxels = np.sum(inner.dataobj) * abs(np.linalg.det(inner.affine) / np.linalg.det(fixed.affine))
    rate = min(1.0, FINE_SAMPLES / float(voxels))
    figure = _Similarity(fixed, move, head, seed)
    ants.config.set_ants_deterministic(False, seed + 1)  # the seed alone; ITK takes 0 for the clock
    try:
        with tempfile.TemporaryDirectory() as folder:
            rough = [
                _rigid(images, start, COARSE, 1.0, Path(folder))
                for start in _starts(head, _head(moving))
            ]
            best = max(rough, key=figure)
            matrix = _rigid(images, best, FINE, rate, Path(folder))
    except RuntimeError as error:
        raise UserError(
            f"ANTs could not register the pair ({error}); look at both images"
        ) from None
    finally:
        ants.config.set_ants_deterministic(False, None)
    image = resampled(moving, matrix @ grid.affine, grid.shape, grid.affine)
    return Registered(image, matrix, figure.quality(matrix))


def registration_quality(
    moving: nib.Nifti1Image, reference: nib.Nifti1Image, matrix: Array, seed: int = 0
) -> float:
    """How much better a pose is than the poses around it, in [−1, 1].

    min over the perturbations p of 1 − S(matrix p) / S(matrix), with S the normalised mutual
    information (H(a) + H(b)) / H(a, b) − 1 at 40 000 points in the head of the reference, and p the
    moves by 5 mm and the turns by 5° about the head's centre, forwards and backwards, about each
    axis and each diagonal. A pose with a better one beside it is at most 0; where the images have
    nothing to say to each other all are alike and it is about 0. The ratio makes pairs of different
    modalities comparable. ``matrix`` (4, 4): reference's mm to moving image's mm (RAS).
    NMI: Studholme et al. 1999, doi 10.1016/S0031-3203(98)00091-0.
    """
    figure = _Similarity(_cubes(reference), _cubes(moving), _head(reference), seed)
    return figure.quality(matrix)


def bias_corrected(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """An MR image divided by its smooth bias field, found by N4 in the head; float32.

    Source: Tustison et al. 2010, doi 10.1109/TMI.2010.2046908. For MR only: CT and PET have a unit.
    """
    ants = _ants()
    array = _array(image)
    mask = np.asarray(head_mask(image).dataobj)
    voxels = np.linalg.norm(image.affine[:3, :3], axis=0).tolist()
    there = [ants.from_numpy(a.astype(np.float32), spacing=voxels) for a in (array, mask)]
    corrected = ants.n4_bias_field_correction(there[0], mask=there[1])
    return nib.Nifti1Image(corrected.numpy().astype(np.float32), image.affine)


def head_mask(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """1 in the head, 0 in air (uint8), by threshold and morphology (``ants.get_mask``).

    It is the head with skull and scalp, not the brain: a brain mask needs a trained model. Raises
    UserError where nothing stands out.
    """
    ants = _ants()
    array = _array(image)
    mask = ants.get_mask(ants.from_numpy(array)).numpy() > 0
    if not mask.any() or array.min() == array.max():
        raise UserError("no head stands out in the image (constant or empty); leave it out")
    return nib.Nifti1Image(mask.astype(np.uint8), image.affine)


class _Similarity:
    """Normalised mutual information − 1 of two images at a pose, at random points in the head.

    The points lie between the voxels, so that no pose is favoured for meeting the grid.
    """

    def __init__(
        self, fixed: nib.Nifti1Image, moving: nib.Nifti1Image, head: nib.Nifti1Image, seed: int
    ) -> None:
        random = np.random.default_rng(seed)
        voxels = np.argwhere(np.asarray(head.dataobj))
        at = voxels[random.integers(len(voxels), size=SAMPLES)]
        self.points = apply_affine(head.affine, at + random.uniform(-0.5, 0.5, (SAMPLES, 3)))
        self.centre = self.points.mean(0)
        at = apply_affine(np.linalg.inv(fixed.affine), self.points)
        self.fixed = _bins(_interpolate(_array(fixed), at))
        self.moving, self.to_voxel = _array(moving), np.linalg.inv(moving.affine)

    def __call__(self, matrix: Array) -> float:
        at = apply_affine(self.to_voxel @ matrix, self.points)
        inside = ((at >= 0) & (at <= np.array(self.moving.shape) - 1)).all(1)
        if inside.mean() < 0.1:  # hardly any overlap
            return 0.0
        pairs = self.fixed[inside] * BINS + _bins(_interpolate(self.moving, at[inside]))
        joint = np.bincount(pairs, minlength=BINS**2).reshape(BINS, BINS) / inside.sum()
        together = _entropy(joint)
        return (_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / together - 1 if together else 0.0

    def quality(self, matrix: Array) -> float:
        here = self(matrix)
        around = max(self(matrix @ move) for move in _perturbations(self.centre))
        return float(np.clip(1 - around / here, -1, 1)) if here > 0 else 0.0


def _perturbations(centre: Array) -> Iterator[Array]:
    axes = [np.array(v, float) for v in np.ndindex(3, 3, 3)]
    for axis in (v - 1 for v in axes):
        if np.abs(axis).sum() in (1, 3):  # the six axes and the eight diagonals
            axis = axis / np.linalg.norm(axis) * PERTURBATION
            move = np.eye(4)
            move[:3, 3] = axis
            yield move
            yield _turn(axis, centre)


def _turn(degrees: Array, centre: Array) -> Array:
    """(4, 4): turn by the rotation vector ``degrees`` about a point."""
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(degrees, degrees=True).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre
    return matrix


def _bins(values: Array) -> Array:
    """Indices (N,) of BINS equal bins between the 0.5th and the 99.5th percentile."""
    low, high = np.percentile(values, (0.5, 99.5))
    scaled = (values - low) / max(high - low, 1e-12) * BINS
    return np.clip(scaled, 0, BINS - 1).astype(np.int64)


def _entropy(p: Array) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def _head(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """The mask of the head on cubes of 4 mm."""
    return head_mask(_cubes(image, HEAD))


def _starts(fixed_head: nib.Nifti1Image, moving_head: nib.Nifti1Image) -> list[Array]:
    """As the scanner has them, and head on head where that is somewhere else."""
    centres = [
        apply_affine(head.affine, np.argwhere(np.asarray(head.dataobj)).mean(0))
        for head in (fixed_head, moving_head)
    ]
    between = np.eye(4)
    between[:3, 3] = centres[1] - centres[0]
    far = np.linalg.norm(between[:3, 3]) > SAME_START
    return [np.eye(4), between] if far else [np.eye(4)]


def _inner(head: nib.Nifti1Image) -> nib.Nifti1Image:
    """The head without its outer MARGIN, or all of it where too little would be left."""
    from scipy import ndimage

    inside = np.asarray(head.dataobj) > 0
    depth = ndimage.distance_transform_edt(inside, np.linalg.norm(head.affine[:3, :3], axis=0))
    deep = depth > MARGIN
    keep = deep if deep.sum() > 0.3 * inside.sum() else inside
    return nib.Nifti1Image(keep.astype(np.uint8), head.affine)


def _rigid(
    images: list[Any], start: Array, levels: dict[str, Any], rate: float, folder: Path
) -> Array:
    """ANTs' rigid pose from a start: (4, 4), reference's mm to moving image's mm (RAS)."""
    ants = _ants()
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
        aff_random_sampling_rate=rate,  # on a regular raster, shaken with the seed
        smoothing_in_mm=True,
        singleprecision=False,
        **levels,
    )
    transform = ants.read_transform(found["fwdtransforms"][0])
    lps = np.eye(4)
    lps[:3, :3] = np.array(transform.parameters[:9]).reshape(3, 3)
    centre = np.array(transform.fixed_parameters)
    lps[:3, 3] = np.array(transform.parameters[9:]) + centre - lps[:3, :3] @ centre
    return LPS @ lps @ LPS


def _cubes(image: nib.Nifti1Image, finest: float = FINEST) -> nib.Nifti1Image:
    """The same image on cubes along AXES, as fine as its own finest axis but not below a width."""
    _array(image)  # refuses what is not a finite volume
    turned = oriented(image)
    voxels = np.linalg.norm(turned.affine[:3, :3], axis=0)
    edge = max(float(voxels.min()), finest)
    shape = tuple(int(n) for n in np.ceil(np.array(turned.shape) * voxels / edge))
    u, _, v = np.linalg.svd(turned.affine[:3, :3] / voxels)  # no shear, as a tilted gantry has
    affine = np.eye(4)
    affine[:3, :3] = u @ v * edge
    affine[:3, 3] = apply_affine(turned.affine, (np.array(turned.shape) - 1) / 2)
    affine[:3, 3] -= affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return resampled(image, affine, shape)


def resampled(
    image: nib.Nifti1Image, affine: Array, shape: tuple[int, ...], write: Array | None = None
) -> nib.Nifti1Image:
    """The image at the voxels of ``affine``, by cubic splines, within its own range.

    Smoothed first where the new voxels are larger, by the Gaussian that takes one width to the
    other. ``write``: the affine the result carries, if not the one it was sampled by.
    """
    from scipy import ndimage

    array = _array(image)
    to_voxel = np.linalg.inv(image.affine) @ affine
    wide = np.abs(to_voxel[:3, :3]).max(1)  # a new voxel, in voxels of the image, per its axis
    smooth = ndimage.gaussian_filter(array, np.sqrt(np.maximum(wide**2 - 1, 0)) / 2.355)
    values = ndimage.affine_transform(
        smooth, to_voxel, output_shape=shape, order=3, mode="constant", cval=float(array.min())
    )
    values = np.clip(values, array.min(), array.max()).astype(np.float32)
    return nib.Nifti1Image(values, affine if write is None else write)


def _interpolate(array: Array, at: Array) -> Array:
    from scipy import ndimage

    return np.asarray(ndimage.map_coordinates(array, at.T, order=1, mode="nearest"))


def _to_ants(image: nib.Nifti1Image) -> Any:
    affine = LPS @ image.affine
    voxels = np.linalg.norm(affine[:3, :3], axis=0)
    return _ants().from_numpy(
        _array(image),
        origin=affine[:3, 3].tolist(),
        spacing=voxels.tolist(),
        direction=affine[:3, :3] / voxels,
    )


def _array(image: nib.Nifti1Image) -> npt.NDArray[np.float32]:
    array = np.asarray(image.dataobj, dtype=np.float32)
    if array.ndim != 3 or not np.isfinite(array).all():
        raise UserError(
            f"image of shape {array.shape}, {int((~np.isfinite(array)).sum())} values NaN or "
            "infinite; expected one finite 3D volume (x, y, z): mend it first"
        )
    return array


def _ants() -> Any:
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")  # read once, by ITK
    try:
        import ants
    except ImportError as error:
        raise UserError(f"{error}; run pip install 'any2all-data[registration]'") from None
    return ants
