"""Patient folders: what goes in comes back, and what can't be used is named."""

from __future__ import annotations

import gzip
import math
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from any2all_core.testing import MODALITIES, phantom
from any2all_data import read_patient, read_volume, to_stack, write_volume
from any2all_data.coverage import covered
from any2all_data.folder_slices import find_modalities, read_slices
from any2all_data.metrics import psnr, ssim
from any2all_data.patients import Patients
from any2all_mri.intensity import mr_scale
from any2all_operators import UserError
from builders.nifti import load
from builders.patients import write_patient

FUZZED = int(os.environ.get("FUZZED", "2000"))
RAS = np.diag([1.5, 1.2, 4.0, 1.0])
SAGITTAL = np.array([[0, 0, 4.0, 9], [1.2, 0.1, 0, 5], [-0.1, 1.5, 0, 3], [0, 0, 0, 1]])


@pytest.mark.parametrize("affine", [RAS, np.diag([-1.5, -1.2, 4, 1]), SAGITTAL])
def test_a_volume_returns_to_its_own_axes_and_place(tmp_path: Path, affine: np.ndarray) -> None:
    array = phantom()
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "T1.nii.gz")
    volume = read_volume(tmp_path / "T1.nii.gz")
    write_volume(tmp_path / "back.nii.gz", volume.slices, volume)
    back = load(tmp_path / "back.nii.gz")
    np.testing.assert_array_equal(back.get_fdata(), array)
    np.testing.assert_allclose(back.affine, affine, atol=1e-5)


def test_slices_show_anterior_at_the_top_and_the_left_side_on_the_right(tmp_path: Path) -> None:
    array = np.zeros((8, 10, 4), np.float32)
    array[1, 8, 2] = 100  # RAS: left, anterior
    nib.save(nib.Nifti1Image(array, RAS), tmp_path / "T1.nii")
    slices = read_volume(tmp_path / "T1.nii").slices
    assert slices.shape == (4, 10, 8)
    assert np.argwhere(slices).tolist() == [[2, 1, 6]]


def test_part_of_a_volume_is_written_where_it_belongs(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(phantom(), RAS), tmp_path / "T1.nii")
    volume = read_volume(tmp_path / "T1.nii")
    write_volume(tmp_path / "part.nii", volume.slices[2:], volume, first_slice=2)
    part = load(tmp_path / "part.nii")
    assert part.shape == (32, 32, 2)
    np.testing.assert_allclose(part.affine[:3, 3], [0, 0, 8])


def test_the_foreground_sets_the_scale() -> None:
    volume = np.concatenate([np.zeros(5000), np.full(990, 100), np.full(10, 9000)])
    assert mr_scale(volume.astype(np.float32)) == pytest.approx(9000, rel=0.01)
    volume = np.concatenate([np.zeros(5000), np.full(9990, 100), np.full(10, 9000)])
    assert mr_scale(volume.astype(np.float32)) == 100


def test_a_patient_becomes_a_stack_in_the_order_asked_for(patient: Path) -> None:
    stack = to_stack(read_patient(patient, ["T1Gd", "T1"]))
    assert stack.shape == (4, 2, 32, 32)
    assert float(stack.min()) == 0
    assert float(stack.max()) == 1
    assert torch.equal(stack[:, 1], to_stack(read_patient(patient, ["T1"]))[:, 0])


def test_a_cohort_is_read_and_empty_slices_left_out(tmp_path: Path) -> None:
    write_patient(tmp_path / "b")
    folder = write_patient(tmp_path / "a")
    array = phantom(seed=1)
    array[:, :, 0] = 0
    nib.save(nib.Nifti1Image(array, np.diag([-1.5, -1.5, 4, 1])), folder / "FLAIR.nii.gz")
    nib.save(nib.Nifti1Image(array, RAS), folder / "lesion.nii.gz")
    patients = [Path(path) for path in Patients.at(tmp_path).everybody.values()]
    assert [p.name for p in patients] == ["a", "b"]
    assert find_modalities(patients) == ("T1", "FLAIR", "T1Gd")
    assert read_slices(patients, MODALITIES).shape == (7, 3, 32, 32)


def test_covered_asks_every_modality() -> None:
    stack = torch.ones(3, 2, 8, 8)
    stack[1, 1] = 0
    assert covered(stack).tolist() == [True, False, True]


def _nan(folder: Path) -> None:
    array = phantom()
    array[3, 4, 1] = np.nan
    nib.save(nib.Nifti1Image(array, RAS), folder / "FLAIR.nii.gz")


def _other_grid(folder: Path) -> None:
    nib.save(nib.Nifti1Image(phantom(depth=5), RAS), folder / "FLAIR.nii.gz")


def _other_place(folder: Path) -> None:
    affine = np.diag([-1.5, -1.5, 4.0, 1.0])
    affine[2, 3] = 7
    nib.save(nib.Nifti1Image(phantom(), affine), folder / "FLAIR.nii.gz")


def _cut(folder: Path) -> None:
    path = folder / "FLAIR.nii.gz"
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda p: (p / "FLAIR.nii.gz").unlink(),
            r"no FLAIR.nii.gz; the folder has T1.nii.gz, T1Gd",
        ),
        (_nan, r"FLAIR.nii.gz: 1 values are NaN"),
        (_other_grid, r"FLAIR.nii.gz: shape \(32, 32, 5\), but .*T1.nii.gz has \(32, 32, 4\)"),
        (_other_place, r"FLAIR.nii.gz: its affine differs from that of .*T1.nii.gz"),
        (_cut, r"FLAIR.nii.gz: not readable as NIfTI"),
        (lambda p: (p / "FLAIR.nii.gz").write_text("hello"), r"FLAIR.nii.gz: not readable"),
        (
            lambda p: nib.save(nib.Nifti1Image(np.zeros((32, 32, 4)), RAS), p / "FLAIR.nii.gz"),
            r"FLAIR.nii.gz: holds no signal",
        ),
        (
            lambda p: nib.save(nib.Nifti1Image(np.ones((4, 4, 4, 2)), RAS), p / "FLAIR.nii.gz"),
            r"FLAIR.nii.gz: shape \(4, 4, 4, 2\); expected one 3D volume",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(patient: Path, damage, said: str) -> None:  # type: ignore[no-untyped-def]
    damage(patient)
    with pytest.raises(UserError, match=said):
        read_patient(patient, ["T1", "FLAIR"])


def test_metrics_are_those_of_their_definitions() -> None:
    truth = torch.rand(2, 32, 32)
    assert psnr(truth + 0.1, truth).tolist() == pytest.approx([20.0, 20.0], abs=1e-3)
    assert ssim(truth, truth).tolist() == pytest.approx([1.0, 1.0])
    assert float(ssim(torch.rand(1, 32, 32), truth[:1])) < 0.3


def _damaged(rng: random.Random, whole: bytes) -> bytes:
    """Bits flipped in header or data, cut short, or fields set to what a header never says."""
    file = bytearray(whole)
    kind = rng.randrange(4)
    if kind == 0:
        for _ in range(rng.choice([1, 3, 30])):
            file[rng.randrange(rng.choice([352, len(file)]))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del file[rng.choice([0, 4, 347, 352, rng.randrange(len(file))]) :]
    elif kind == 2:  # dims, datatype, bitpix
        for offset in rng.sample([40, 42, 44, 46, 48, 70, 72], 3):
            struct.pack_into("<h", file, offset, rng.choice([0, -1, 3, 64, 128, 30000, 32767]))
    else:  # pixdim, vox_offset, slope, intercept, quaternion, affine
        for offset in rng.sample([76, 80, 108, 112, 116, 256, 268, 280, 292, 300], 2):
            value = rng.choice([0, -1, math.nan, math.inf, 1e30, 1e-30, 3e9])
            struct.pack_into("<f", file, offset, value)
    if rng.random() < 0.5:
        return bytes(file)
    packed = bytearray(gzip.compress(bytes(file), 1))
    if rng.random() < 0.3:
        packed[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
    return bytes(packed)


@pytest.mark.slow
def test_fuzzed_nifti_is_an_image_or_a_refusal(tmp_path: Path) -> None:
    """In a process that may take 2 GB and a minute more than what it imports."""
    rng = random.Random(0)
    for k in range(FUZZED):
        image = nib.Nifti1Image(phantom(10, 6, k).astype(rng.choice(["i2", "f4"])), np.eye(4))
        file = _damaged(rng, image.to_bytes())
        suffix = ".nii.gz" if file[:2] == b"\x1f\x8b" else ".nii"
        (tmp_path / f"{k:05d}{suffix}").write_bytes(file)
    program = """
import resource, sys
from collections import Counter
from pathlib import Path
from any2all_data.nifti import load_nifti
from any2all_operators import UserError
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, used + 2**31))
ends = Counter()
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        ends[str(load_nifti(path, path.name).image.shape == (10, 10, 6))] += 1
    except UserError as error:
        assert str(error).startswith(path.name) and "\\n" not in str(error)
        ends["refused"] += 1
print(ends["True"], ends["False"], ends["refused"])
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, tmp_path],
        capture_output=True,
        text=True,
        timeout=60 + FUZZED / 50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    whole, other, refused = map(int, done.stdout.split())
    assert whole + other + refused == FUZZED
    assert refused > FUZZED / 3
