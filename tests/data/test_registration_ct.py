"""CT and PET of a virtual person to its T1: found again from afar, and known when they are not."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from any2all_data.kinds import kind_of
from any2all_data.registration import (
    QUALITY_THRESHOLD,
    head_mask,
    quality_threshold,
    reference_grid,
    register,
    registration_quality,
)
from any2all_virtual import virtual_person
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

pytestmark = pytest.mark.slow

pytest.importorskip("ants")
T1, CT = kind_of("T1"), kind_of("CT")
Images = dict[str, nib.Nifti1Image]
CENTRE = np.array([0.0, -8.0, 16.0])
HEAD = CENTRE + np.random.default_rng(0).uniform(-60, 60, (200, 3))


def pose(degrees: tuple[float, ...], mm: tuple[float, ...]) -> np.ndarray:
    """(4, 4): turn about the head's centre, then shift."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(degrees, degrees=True).as_matrix()
    matrix[:3, 3] = CENTRE - matrix[:3, :3] @ CENTRE + mm
    return matrix


MOVE = pose((6, -4, 8), (7, -5, 9))
FAR = pose((-14, 6, 8), (16, -12, 18))


@pytest.fixture(scope="module")
def person() -> Images:
    return virtual_person(3, spacing=(2.5, 2.5, 2.5), shape=(82, 96, 72)).images


def moved(image: nib.Nifti1Image, matrix: np.ndarray, slices: slice) -> nib.Nifti1Image:
    """The head at ``matrix`` of where it was, and some of its slices."""
    cut = image.slicer[:, :, slices]
    return nib.Nifti1Image(np.asarray(cut.dataobj), matrix @ cut.affine)


def with_table(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """A CT with a headrest close to the head and a board under it, and padding in the corners."""
    array = np.array(image.dataobj)
    back = np.argmax((array > -300).any((0, 2))) - 3  # the first row of the head, and a gap
    array[12:70, max(back - 2, 0) : max(back, 1)] = 150
    array[:, :1] = 200
    corner = np.hypot(*(np.indices(array.shape[:2]) - np.array([[[41]], [[48]]]))) > 53
    array[corner] = -3024
    return nib.Nifti1Image(array, image.affine)


def error(found: np.ndarray, truth: np.ndarray) -> float:
    apart = apply_affine(found, HEAD) - apply_affine(truth, HEAD)
    return float(np.linalg.norm(apart, axis=1).mean())


@pytest.mark.parametrize(
    ("modality", "truth", "slices", "within"),
    [
        ("CT", MOVE, slice(None), 0.6),  # 0.12 mm; 7 mm off where the skull was left out
        ("PET", FAR, slice(24, None), 1.0),
    ],
)
def test_found_again(
    person: Images, modality: str, truth: np.ndarray, slices: slice, within: float
) -> None:
    image = with_table(person["CT"]) if modality == "CT" else person["PET"]
    grid = reference_grid(person["T1"], (6, 6, 6), (34, 40, 30))
    moving = moved(image, truth, slices)
    found = register(moving, person["T1"], grid, kinds=(kind_of(modality), T1))
    assert error(found.matrix, truth) < within
    assert found.quality > quality_threshold((kind_of(modality), T1))
    assert found.image.shape == grid.shape


def test_wrong_poses_are_refused(person: Images) -> None:
    """Off by what is too much, in a direction of its own; and T1 does not go by CT's threshold."""
    pair = (CT, T1)
    moving = moved(person["CT"], MOVE, slice(None))
    right, *wrong = (
        registration_quality(moving, person["T1"], MOVE @ away, kinds=pair)
        for away in (np.eye(4), pose((0, 0, 0), (0, 3, 2)), pose((5, 0, 3), (2, 0, 0)))
    )
    assert right > quality_threshold(pair) > max(wrong)
    assert quality_threshold((T1, CT)) == quality_threshold((CT, kind_of("FLAIR")))
    assert quality_threshold((kind_of("T2"), T1)) == QUALITY_THRESHOLD < quality_threshold((CT, T1))


def test_the_head_of_a_ct_is_without_its_table(person: Images) -> None:
    alone, lying = (
        np.asarray(head_mask(image, CT).dataobj)
        for image in (person["CT"], with_table(person["CT"]))
    )
    assert (alone != lying).sum() < 0.01 * alone.sum()
    body = np.asarray(person["CT"].dataobj) > -300
    assert (body & ~(alone > 0)).sum() < 0.01 * body.sum()
    assert alone.sum() > body.sum()  # its sinuses are filled
