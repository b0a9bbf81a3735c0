"""What the numbers of a file mean: HU, SUV and millimetres, or a refusal that says why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from any2all_core.testing import phantom
from any2all_data.dicom import find_series, read_series
from any2all_data.hounsfield import hounsfield
from any2all_data.kinds import kind_of, stack_format
from any2all_data.nifti import load_nifti
from any2all_data.patient import read_patient
from any2all_data.pet_sidecar import Frame, late_frames
from any2all_data.prepare import FoundPlan, prepare_patient
from any2all_data.sources import Source, find_sources
from any2all_data.stacking import Preparation
from any2all_data.store import CohortStore
from any2all_operators import UserError
from builders.dicom import pet, refusal, save, stack
from builders.nifti import (
    BECQUEREL,
    INJECTED,
    PLACE,
    SHAPE,
    ct,
    distance,
    header_of,
    uptake,
    without,
    write,
)


def values_of(path: Path, modality: str, **options: Any) -> np.ndarray:
    return np.asarray(load_nifti(path, "it", kind_of(modality), **options).image.dataobj)


def refused(path: Path, modality: str) -> str:
    with pytest.raises(UserError) as caught:
        load_nifti(path, "it", kind_of(modality))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- CT ---


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


# --- where the voxels are ---


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


# --- PET ---


@pytest.mark.parametrize(
    ("sidecar", "unit"),
    [
        (INJECTED, BECQUEREL),
        (without(Units="kBq/ml"), BECQUEREL / 1000),
        (without(Units="BQML"), BECQUEREL),
        (without("BodyWeight", PatientWeight=70.0), BECQUEREL),
        (without(InjectedRadioactivity=200 / 37, InjectedRadioactivityUnits="mCi"), BECQUEREL),
        (without(TracerRadionuclide="[18F]"), BECQUEREL),
        (without(TracerRadionuclide="X99", RadionuclideHalfLife=6586.2), BECQUEREL),
        (without(ImageDecayCorrectionTime=-1800), 200e6 / 70000),
        (without(Units="SUV"), 1.0),
        ({"Units": "g/mL"}, 1.0),
    ],
)
def test_pet_becomes_suv_by_its_sidecar(
    tmp_path: Path, sidecar: dict[str, Any], unit: float
) -> None:
    path = write(tmp_path / "PET.nii.gz", unit * uptake(), **sidecar)
    np.testing.assert_allclose(values_of(path, "PET"), uptake(), rtol=1e-4)


def test_pet_that_is_not_decay_corrected(tmp_path: Path) -> None:
    """What a frame of uniform uptake shows is the mean of what is left over its time."""
    times = np.linspace(3600, 4800, 10001)
    shown = uptake() * (200e6 / 70000) * (0.5 ** (times / 6586.2)).mean()
    told = without("ImageDecayCorrectionTime", ImageDecayCorrected=False)
    frame: dict[str, Any] = {"FrameTimesStart": [1800], "FrameDuration": [1200]}
    path = write(tmp_path / "PET.nii.gz", shown, **told, **frame)
    np.testing.assert_allclose(values_of(path, "PET"), uptake(), rtol=1e-4)
    write(path, shown, **told)
    assert "SUV needs FrameTimesStart and FrameDuration" in refused(path, "PET")


@pytest.mark.parametrize(
    ("sidecar", "said"),
    [
        (without("BodyWeight"), "SUV needs BodyWeight"),
        (
            without("Units", "InjectionStart", "TracerRadionuclide"),
            "SUV needs Units, InjectionStart, TracerRadionuclide: missing",
        ),
        (without("ImageDecayCorrectionTime"), "SUV needs ImageDecayCorrectionTime"),
        (without("ImageDecayCorrected"), "SUV needs ImageDecayCorrected"),
        (without(InjectionStart="n/a", BodyWeight=""), "SUV needs InjectionStart, BodyWeight"),
        (without(Units="SUVR"), "Units in its sidecar is none of"),
        (without(Units="counts"), "Units in its sidecar is none of"),
        (without(InjectedRadioactivityUnits="Bq"), "InjectedRadioactivity is 200 Bq; expected"),
        (without(InjectedRadioactivityUnits="g"), "InjectedRadioactivityUnits is neither"),
        (without(InjectionStart="09:30:00"), "InjectionStart is not a number"),
        (without(InjectionStart=-400000), "s after InjectionStart; expected"),
        (without(TracerRadionuclide="Doe"), "TracerRadionuclide is none of O15"),
        (without(BodyWeight=70000), "BodyWeight is 70000; expected"),
        (without(AttenuationCorrection="none"), "AttenuationCorrection is none"),
        (without(InjectedRadioactivityUnits="kBq"), "which can't be SUV"),
    ],
)
def test_pet_is_refused_by_what_it_lacks(
    tmp_path: Path, sidecar: dict[str, Any], said: str
) -> None:
    path = write(tmp_path / "PET.nii.gz", BECQUEREL * uptake(), **sidecar)
    assert said in refused(path, "PET")


def test_pet_without_a_sidecar_is_suv_where_it_can_be(tmp_path: Path) -> None:
    path = write(tmp_path / "PET.nii.gz", uptake())
    scan = load_nifti(path, "it", kind_of("PET"))
    np.testing.assert_array_equal(scan.image.dataobj, uptake())
    assert scan.notes == ("no sidecar gives its unit; its values are taken as SUV (g/ml)",)
    assert "which can't be SUV" in refused(write(path, BECQUEREL * uptake()), "PET")
    assert "which can't be SUV" in refused(write(path, 0.005 * uptake()), "PET")
    bids = write(tmp_path / "sub-1/pet/sub-1_pet.nii.gz", uptake())
    assert "SUV needs Units" in refused(bids, "PET")
    broken = path.with_name("PET.json")
    broken.write_text("[1, 2")
    assert "its sidecar is not a JSON object" in refused(path, "PET")


def test_sidecars_are_inherited_and_the_weight_is_the_participants(tmp_path: Path) -> None:
    """BIDS: what is nearer to the image overrides what is further away, entities must agree."""
    path = write(
        tmp_path / "sub-1/ses-a/pet/sub-1_ses-a_trc-FDG_pet.nii.gz",
        BECQUEREL * uptake(),
        ImageDecayCorrectionTime=600,
    )
    (tmp_path / "pet.json").write_text(json.dumps(without("BodyWeight", Units="counts")))
    (tmp_path / "trc-FDG_pet.json").write_text('{"Units": "Bq/mL"}')
    (tmp_path / "sub-1/ses-a/sub-1_ses-a_trc-PIB_pet.json").write_text('{"Units": "SUV"}')
    assert "SUV needs BodyWeight" in refused(path, "PET")
    people = tmp_path / "participants.tsv"
    people.write_text("participant_id\tage\tweight\nsub-10\t50\t90\nsub-1\t40\tn/a\n")
    assert "SUV needs BodyWeight" in refused(path, "PET")
    people.write_text("participant_id\tage\tweight\nsub-10\t50\t90\nsub-1\t40\t70\n")
    np.testing.assert_allclose(values_of(path, "PET"), uptake(), rtol=1e-4)


FRAMES = {
    "FrameTimesStart": [0, 60, 300, 900, 1800, 2400, 3000],
    "FrameDuration": [60, 240, 600, 900, 600, 600, 300],
}


def test_dynamic_pet_is_the_mean_of_its_late_frames(tmp_path: Path) -> None:
    """The last 20 minutes of 55 after the injection: frames 5 (35 to 40 min is its end) to 7."""
    levels = np.array([90, 60, 30, 20, 1.2, 1.0, 0.8])
    series = uptake()[..., None] * BECQUEREL * levels
    told = without(InjectionStart=0, ImageDecayCorrectionTime=2400, **FRAMES)
    path = write(tmp_path / "PET.nii.gz", series, **told)
    scan = load_nifti(path, "it", kind_of("PET"))
    late = (600 * 1.0 + 300 * 0.8) / 900
    np.testing.assert_allclose(scan.image.dataobj, late * uptake(), rtol=1e-4)
    assert scan.notes == ("SUV is the mean of frames 6 to 7 of 7, 40 to 55 min after injection",)
    write(path, series, **without(InjectionStart=0, ImageDecayCorrectionTime=2400))
    assert "needs FrameTimesStart, FrameDuration and InjectionStart" in refused(path, "PET")
    write(path, series[..., :3], **told)
    assert "3 frames, but FrameTimesStart and FrameDuration describe 7" in refused(path, "PET")
    path.with_name("PET.json").unlink()
    assert "dynamic PET of 3 frames without a sidecar" in refused(path, "PET")
    write(tmp_path / "T1.nii.gz", series)
    assert "expected one 3D volume" in refused(tmp_path / "T1.nii.gz", "T1")


def test_late_frames_are_late() -> None:
    def frames(*ends: float) -> list[Frame]:
        return [Frame(60 * a, 60 * (b - a)) for a, b in zip((0, *ends), ends, strict=False)]

    assert late_frames(frames(10, 20, 40, 50, 60), 5) == [3, 4]
    assert late_frames(frames(10, 30, 90), 3) == [2]  # longer than 20 minutes
    assert late_frames(frames(10, 25, 30, 40), 4) == [3]  # 25 min is too early
    with pytest.raises(UserError, match="last frame begins 20 min after injection"):
        late_frames(frames(10, 20, 30), 3)
    with pytest.raises(UserError, match="that overlap"):
        late_frames([Frame(0, 60), Frame(20, 60)], 2)


def test_dynamic_pet_of_dicom_is_never_its_first_frame(tmp_path: Path) -> None:
    images = pet(FrameReferenceTime=30000)
    for dataset in pet(FrameReferenceTime=90000):
        dataset.SOPInstanceUID += ".2"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        images.append(dataset)
    said = refusal(save(tmp_path, images))
    assert "dynamic or gated PET: 8 images of 4 places" in said


# --- a cohort ---


def test_another_sidecar_is_another_source(tmp_path: Path) -> None:
    path = write(tmp_path / "a/PET.nii.gz", BECQUEREL * uptake(), **INJECTED)

    def only() -> Source:
        (source,), _ = find_sources(tmp_path)
        return source

    before = only().fingerprint()
    assert only().fingerprint() == before
    path.with_name("PET.json").write_text(json.dumps(without(BodyWeight=80)))
    assert only().fingerprint() != before


def test_a_patient_prepared_before_axes_could_be_trusted_is_unchanged(tmp_path: Path) -> None:
    write(tmp_path / "source/a/T1.nii.gz", phantom(32, 14))
    (source,), _ = find_sources(tmp_path / "source")
    url, plan = str(tmp_path / "cohort"), FoundPlan("p-1", "train", {"T1": [source]})
    store = CohortStore.create(url, stack_format(("T1",), (32, 32)))
    made = prepare_patient(plan, url, Preparation()).entry
    assert made is not None
    kept = {name: value for name, value in made.preparation.items() if name != "trust_axes"}
    store.update("p-1", replace(made, preparation=kept))
    assert prepare_patient(plan, url, Preparation()).status == "unchanged"
    assert "other preparation" in prepare_patient(plan, url, Preparation(trust_axes=True)).reason
