"""What the numbers of a file mean: HU, SUV and millimetres, or a refusal that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from any2all_core.testing import phantom
from any2all_data.dicom import find_series, read_series
from any2all_data.hounsfield import hounsfield
from any2all_data.kinds import kind_of
from any2all_data.nifti import load_nifti
from any2all_data.patient import read_patient
from any2all_operators import UserError
from builders.dicom import save, stack
from builders.nifti import (
    PLACE,
    SHAPE,
    ct,
    distance,
    header_of,
    uptake,
    write,
)
from builders.refusals import refused


@pytest.mark.parametrize("level", [-3024, -2000, -1025, -32768])
def test_padding_below_what_a_ct_can_measure_is_air(level: float) -> None:
    whole = ct()
    padded = whole.copy()
    padded[:4], padded[:, -4:] = level, level
    values, notes = hounsfield(padded)
    assert values.min() >= -1024
    assert np.array_equal(values[4:, :-4], whole[4:, :-4].astype(values.dtype))
    assert (values[:4] == -1000).all()
    assert "below -1024 HU; they are air now" in notes[0]
    assert hounsfield(whole)[1] == ()


def test_a_constant_that_fills_the_volume_up_is_air() -> None:
    """A tool that resamples puts 0 outside the scan, which is water: here on two of its sides."""
    padded = ct()
    padded[:4], padded[:, -4:] = 0, 0
    padded[16, 18, 7] = 0
    values, notes = hounsfield(padded)
    assert (values[:4] == -1000).all()
    assert values[16, 18, 7] == 0
    assert "connected to a corner, were all 0; they are air now" in notes[0]


def unsigned() -> np.ndarray:
    return ct().round().astype(np.int16).view(np.uint16).astype(float)


def spikes() -> np.ndarray:
    values = ct()
    values[np.random.default_rng(1).random(SHAPE) < 0.001] = 9000
    return values


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (lambda: ct() + 1024, "its darkest values are about"),
        (lambda: (ct().clip(-1000, 1000) + 1000) / 2000, "expected air near -1000 HU"),
        (lambda: ct().clip(-100, 300), "its darkest values are about -100"),
        (lambda: np.where(distance() < 0.85, 35.0, 0.0), "expected air near -1000 HU"),
        (lambda: ct() + 200, "its darkest values are about"),
        (lambda: ct() - 1024, "of the voxels above -500 HU lie within 150 HU of water"),
        (lambda: ct() * np.where(ct() > 0, 10, 1), "lie within 150 HU of water"),
        (unsigned, "its header says unsigned, but its values are signed"),
        (lambda: unsigned() - 1024, "its header says unsigned, but its values are signed"),
        (lambda: unsigned() % 4096, "its header says unsigned, but its values are signed"),
        (spikes, "are isolated, so they are no metal"),
        (lambda: np.where(distance() > 1, -1000, np.where(ct() > 500, 5000, 35)), "of the body"),
        (lambda: np.full(SHAPE, -3024.0), "its darkest values are about -3024"),
    ],
)
def test_what_can_be_no_hounsfield_units_is_refused(values: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        hounsfield(values())


def test_metal_and_parts_of_a_body_are_let_through() -> None:
    metal = ct()
    metal[15:18, 15:18, 6:8] = 2500
    metal[16, 16, 6:8] = 14000
    assert hounsfield(metal)[0].max() == 14000


def test_what_a_ct_shows_beside_a_head_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "CT.nii.gz", ct())
    assert load_nifti(path, "it", kind_of("CT")).notes == ()
    write(path, ct()[8:24, 9:27, 3:12])  # the field of view is smaller than the head
    (said,) = load_nifti(path, "it", kind_of("CT")).notes
    assert "its field of view cuts the body" in said
    chest = np.where(distance() < 0.6, -850.0, 45.0)  # lungs
    chest[distance() > 1] = -1000
    write(path, np.concatenate([chest, ct()], 2), PLACE @ np.diag([1, 1, 6, 1]))
    assert load_nifti(path, "it", kind_of("CT")).notes == (
        "it is 504 mm tall, which is more than a head",
    )


def test_ct_of_nifti_and_of_a_patient_folder(tmp_path: Path) -> None:
    padded = ct()
    padded[:4] = -3024
    path = write(tmp_path / "p/CT.nii.gz", padded)
    volume = read_patient(tmp_path / "p", ["CT"])["CT"]
    assert volume.slices.min() >= -1024
    assert len(volume.notes) == 1
    assert load_nifti(path, "it").image.get_fdata().min() == -3024  # no CT, no HU
    write(path, ct() + 1024)
    with pytest.raises(UserError, match=r"CT.nii.gz: its darkest values"):
        read_patient(tmp_path / "p", ["CT"])


@pytest.mark.parametrize("vr", ["SS", "US"])
def test_padding_of_dicom_is_air_whatever_its_sign(tmp_path: Path, vr: str) -> None:
    """From PixelPaddingValue to PixelPaddingRangeLimit, of the stored values."""
    tags: dict[str, Any] = {"RescaleSlope": 2, "RescaleIntercept": -1000, "PixelRepresentation": 1}
    images = stack(modality="CT", **tags)
    for dataset in images:
        stored = np.frombuffer(dataset.PixelData, np.int16).copy()
        stored[:90] = np.tile([-2000, -1990, 30], 30)
        dataset.PixelData = stored.tobytes()
        wrap = 65536 if vr == "US" else 0
        dataset.add_new(0x00280120, vr, -2000 + wrap)
        dataset.add_new(0x00280121, vr, -1980 + wrap)
    (series,), _ = find_series(save(tmp_path, images))
    voxels = np.asarray(read_series(series).dataobj)
    first = voxels[:, :, 0].T.ravel()[:90]
    assert first.tolist() == [-1000, -1000, -940] * 30
    assert voxels.min() >= -1000


@pytest.mark.parametrize(("unit", "size"), [(1, 0.001), (2, 1.0), (3, 1000.0), (0, 1.0)])
def test_lengths_are_in_the_unit_of_the_header(tmp_path: Path, unit: int, size: float) -> None:
    affine = PLACE.copy()
    affine[:3] *= size
    path = header_of(write(tmp_path / "T1.nii", phantom(12, 6), affine), xyzt_units=unit)
    np.testing.assert_allclose(load_nifti(path, "it").image.affine, PLACE, rtol=1e-5)


@pytest.mark.parametrize(("unit", "size"), [(0, 0.001), (2, 1000.0), (1, 1.0), (3, 1.0)])
def test_voxels_that_no_scanner_has_are_refused(tmp_path: Path, unit: int, size: float) -> None:
    affine = PLACE.copy()
    affine[:3] *= size
    path = header_of(write(tmp_path / "T1.nii", phantom(12, 6), affine), xyzt_units=unit)
    assert "mm; expected 0.02 to 100. Mend pixdim" in refused(path, "T1")


def test_no_form_code_is_refused_unless_the_axes_are_trusted(tmp_path: Path) -> None:
    array = phantom(12, 6)
    path = header_of(write(tmp_path / "T1.nii", array, PLACE), qform_code=0, sform_code=0)
    assert "its qform_code and sform_code are 0" in refused(path, "T1")
    scan = load_nifti(path, "it", kind_of("T1"), trust_axes=True)
    assert nib.aff2axcodes(scan.image.affine) == ("R", "A", "S")
    np.testing.assert_allclose(np.diag(scan.image.affine), [2, 2, 3, 1])
    np.testing.assert_array_equal(scan.image.dataobj, array)
    assert "trusted" in scan.notes[0]
    known = write(tmp_path / "T2.nii", array, PLACE)
    assert load_nifti(known, "it", kind_of("T2"), trust_axes=True).notes == ()


def test_two_forms_that_disagree_are_said(tmp_path: Path) -> None:
    for moved, count in ((0.5, 0), (4.0, 1)):
        made = nib.Nifti1Image(phantom(12, 6), PLACE)
        other = PLACE.copy()
        other[0, 3] += moved
        made.set_qform(other, 1)
        nib.save(made, tmp_path / "T1.nii")
        scan = load_nifti(tmp_path / "T1.nii", "it")
        assert len(scan.notes) == count
        np.testing.assert_allclose(scan.image.affine, PLACE)
    assert scan.notes == ("its sform and qform differ by up to 4.0 mm; the sform is used",)


@pytest.mark.parametrize(("modality", "level"), [("T1", 0.0), ("CT", -1000.0), ("PET", 0.0)])
def test_nan_around_the_body_is_background(tmp_path: Path, modality: str, level: float) -> None:
    values = {"CT": ct, "PET": uptake, "T1": uptake}[modality]().astype(np.float32)
    outside = distance() > 1.1
    values[outside] = np.nan
    path = write(tmp_path / f"{modality}.nii.gz", values)
    scan = load_nifti(path, "it", kind_of(modality))
    read = np.asarray(scan.image.dataobj)
    assert (read[outside] == level).all()
    np.testing.assert_array_equal(read[~outside], values[~outside])
    assert any(f"around the body, were NaN; they are {level:g} now" in note for note in scan.notes)
    values[16, 18, 7] = np.nan
    write(path, values)
    assert "it: 1 values are NaN or infinite in the body" in refused(path, modality)
    write(path, np.full(SHAPE, np.nan))
    assert "values are NaN or infinite" in refused(path, modality)
