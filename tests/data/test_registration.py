"""Rigid registration: known moves are found again, hopeless pairs are seen as such."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from any2all_data import registration
from any2all_data.registration import (
    QUALITY_THRESHOLD,
    bias_corrected,
    head_mask,
    reference_grid,
    register,
    registration_quality,
)
from any2all_operators import UserError
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

pytestmark = pytest.mark.slow

pytest.importorskip("ants")
Array = np.ndarray
VOXEL, SIDE = 4.0, 44
LEVELS = {"T1": (100, 60, 160, 30, 200), "FLAIR": (70, 120, 20, 150, 110)}


def head(points: Array, levels: tuple[int, ...]) -> Array:
    """Grey values (...) of a head without symmetry at points (..., 3) in mm about its centre."""
    values = np.zeros(points.shape[:-1], np.float32)
    shells = (
        ((0, 0, 0), (66, 78, 72)),
        ((0, 0, 0), (58, 70, 64)),
        ((-14, 8, 6), (24, 34, 20)),
        ((20, -26, -12), (16, 12, 26)),
        ((12, 30, 24), (20, 12, 10)),
    )
    for (centre, radii), level in zip(shells, levels, strict=True):
        inside = (((points - centre) / np.array(radii)) ** 2).sum(-1)
        values += (level - values) / (1 + np.exp(np.clip((inside - 1) * 20, -50, 50)))
    return values


def scan(modality: str, axes: Array, pose: Array, seed: int = 0) -> nib.Nifti1Image:
    """A scan of the head along ``axes`` (3, 3); ``pose``: (4, 4), head's mm to the scanner's mm."""
    affine = np.eye(4)
    affine[:3, :3] = axes * VOXEL
    affine[:3, 3] = -affine[:3, :3] @ np.full(3, (SIDE - 1) / 2)
    voxels = np.stack(np.meshgrid(*[np.arange(SIDE)] * 3, indexing="ij"), -1)
    values = head(apply_affine(np.linalg.inv(pose) @ affine, voxels), LEVELS[modality])
    noise = np.random.default_rng(seed).normal(0, 2, values.shape)
    return nib.Nifti1Image((values + noise).clip(0).astype(np.float32), affine)


def pose(degrees: tuple[float, ...] = (0, 0, 0), mm: tuple[float, ...] = (0, 0, 0)) -> Array:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(degrees, degrees=True).as_matrix()
    matrix[:3, 3] = mm
    return matrix


RAS = np.eye(3)
FLIPPED = np.array([[0, 0, -1], [-1, 0, 0], [0, 1, 0]], float)  # slices along the patient's x
LEFT_HANDED = np.diag([-1.0, 1, 1])
OBLIQUE = Rotation.from_rotvec((20, -10, 15), degrees=True).as_matrix() @ np.diag([-1.0, -1, 1])
MOVE = pose((6, -4, 8), (7, -5, 9))
HEAD = np.random.default_rng(0).uniform(-60, 60, (200, 3))


@pytest.fixture(scope="module")
def reference() -> nib.Nifti1Image:
    return scan("T1", OBLIQUE, pose())


@pytest.fixture(scope="module")
def grid(reference: nib.Nifti1Image) -> nib.Nifti1Image:
    return reference_grid(reference, (4, 4, 4), (40, 44, 40))


@pytest.mark.parametrize("axes", [FLIPPED, LEFT_HANDED, OBLIQUE])
def test_a_known_move_is_found(
    axes: Array, reference: nib.Nifti1Image, grid: nib.Nifti1Image
) -> None:
    found = register(scan("FLAIR", axes, MOVE, seed=1), reference, grid)
    error = np.linalg.norm(apply_affine(found.matrix, HEAD) - apply_affine(MOVE, HEAD), axis=1)
    assert error.mean() < 0.15 * VOXEL
    assert found.quality > QUALITY_THRESHOLD
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    truth = head(apply_affine(grid.affine, voxels), LEVELS["FLAIR"])
    image = np.asarray(found.image.dataobj)
    assert image.dtype == np.float32
    assert np.array_equal(found.image.affine, grid.affine)
    assert np.abs(image - truth).mean() < 4


def test_head_far_from_the_scanners_centre(
    reference: nib.Nifti1Image, grid: nib.Nifti1Image
) -> None:
    moving = scan("FLAIR", RAS, pose())
    moved = nib.Nifti1Image(moving.dataobj, pose(mm=(90, -300, 150)) @ moving.affine)
    found = register(moved, reference, grid)
    assert np.allclose(found.matrix, pose(mm=(90, -300, 150)), atol=0.15 * VOXEL)


def test_the_same_bytes_twice_and_no_file_left(
    reference: nib.Nifti1Image,
    grid: nib.Nifti1Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    moving = scan("FLAIR", RAS, MOVE)
    first, second = (register(moving, reference, grid, seed=3) for _ in range(2))
    assert first.matrix.tobytes() == second.matrix.tobytes()
    assert np.array_equal(first.image.dataobj, second.image.dataobj)
    assert first.quality == second.quality
    assert not list(tmp_path.iterdir())


def test_a_hopeless_pair_is_seen(reference: nib.Nifti1Image, grid: nib.Nifti1Image) -> None:
    noise = np.random.default_rng(5).uniform(0, 200, reference.shape).astype(np.float32)
    found = register(nib.Nifti1Image(noise, reference.affine), reference, grid)
    assert found.quality < QUALITY_THRESHOLD


def test_quality_of_wrong_poses(reference: nib.Nifti1Image) -> None:
    moving = scan("FLAIR", RAS, MOVE)
    assert registration_quality(moving, reference, MOVE) > QUALITY_THRESHOLD
    for wrong in (pose(mm=(4, 0, 0)), pose(mm=(0, 6, 6)), pose((0, 10, 0))):
        assert registration_quality(moving, reference, wrong @ MOVE) < QUALITY_THRESHOLD


def test_reference_grid_keeps_place_and_axes(reference: nib.Nifti1Image) -> None:
    grid = reference_grid(reference, (2, 3, 5), (80, 70, 36))
    assert grid.shape == (80, 70, 36)
    assert nib.aff2axcodes(grid.affine) == ("L", "P", "S")
    assert np.allclose(np.linalg.norm(grid.affine[:3, :3], axis=0), (2, 3, 5))
    assert np.allclose(grid.affine[:3, :3] / (2, 3, 5), OBLIQUE, atol=1e-6)
    centre = apply_affine(grid.affine, (np.array(grid.shape) - 1) / 2)
    assert np.abs(centre).max() < 4
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    truth = head(apply_affine(grid.affine, voxels), LEVELS["T1"])
    assert np.abs(np.asarray(grid.dataobj) - truth).mean() < 6


def test_coarsening_does_not_alias() -> None:
    stripes = np.zeros((64, 64, 64), np.float32)
    stripes[8:56, 8:56, 8:56] = 100 + 100 * (np.arange(48) % 2)[:, None, None]
    grid = reference_grid(nib.Nifti1Image(stripes, np.eye(4)), (4.0, 4.0, 4.0), (8, 8, 8))
    inner = np.asarray(grid.dataobj)[2:6, 2:6, 2:6]
    assert np.abs(inner - 150).max() < 5


def test_head_mask_and_bias_field() -> None:
    image = scan("T1", RAS, pose())
    mask = np.asarray(head_mask(image).dataobj)
    assert mask[SIDE // 2, SIDE // 2, SIDE // 2] == 1
    assert mask[:2].max() == 0
    field = np.linspace(0.6, 1.4, SIDE, dtype=np.float32)[:, None, None]
    array = np.asarray(image.dataobj)
    corrected = np.asarray(bias_corrected(nib.Nifti1Image(array * field, image.affine)).dataobj)
    inside = mask > 0

    def spread(values: Array) -> float:
        ratio = values[inside] / array[inside].clip(1)
        return float(ratio.std() / ratio.mean())

    assert spread(corrected) < 0.5 * spread(array * field)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((8, 8, 8), np.float32), "no head stands out"),
        (np.zeros((8, 8), np.float32), "expected one finite 3D volume"),
        (np.full((8, 8, 8), np.nan, np.float32), "512 NaN or infinite values"),
    ],
)
def test_refused(array: Array, message: str, reference: nib.Nifti1Image) -> None:
    with pytest.raises(UserError, match=message):
        register(nib.Nifti1Image(array, np.eye(4)), reference, reference)


def test_without_ants(monkeypatch: pytest.MonkeyPatch, reference: nib.Nifti1Image) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ants", None)
    with pytest.raises(UserError, match=r"any2all-data\[registration\]"):
        registration.head_mask(reference)
