"""PET as SUV: sidecars, decay, and dynamic scans."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from any2all_core.testing import phantom
from any2all_data.kinds import kind_of, stack_format
from any2all_data.nifti import load_nifti
from any2all_data.pet_sidecar import Frame, late_frames
from any2all_data.prepare import FoundPlan, prepare_patient
from any2all_data.sources import Source, find_sources
from any2all_data.stacking import Preparation
from any2all_data.store import CohortStore
from any2all_operators import UserError
from builders.dicom import pet, refusal, save
from builders.nifti import (
    BECQUEREL,
    INJECTED,
    uptake,
    without,
    write,
)
from builders.refusals import refused


def values_of(path: Path, modality: str, **options: Any) -> np.ndarray:
    return np.asarray(load_nifti(path, "it", kind_of(modality), **options).image.dataobj)


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
