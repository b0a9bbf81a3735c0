"""Whose an image is, in trees where DICOM, BIDS and other NIfTI lie side by side."""

from __future__ import annotations

import gc
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from any2all_core import Grid
from any2all_core.testing import phantom
from any2all_data.kinds import stack_format
from any2all_data.prepare import FoundPlan, prepare_patient
from any2all_data.ranking import choose
from any2all_data.rules import read_rules
from any2all_data.source_tree import counted
from any2all_data.sources import find_sources
from any2all_data.stacking import Preparation
from any2all_data.store import CohortStore
from any2all_operators import UserError
from builders.dicom import image, save, stack
from builders.patients import write_patient
from builders.people import ANNEX, scan_of
from pydicom.fileset import FileSet

NIFTI = nib.Nifti1Image(phantom(8), np.diag([-1.5, -1.5, 4, 1])).to_bytes()


def put(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(NIFTI)
    return folder


def people(folder: Path) -> dict[str, list[str]]:
    """{patient: names of its files, or the description of its series}."""
    found = defaultdict(list)
    for source in find_sources(folder)[0]:
        what = source.tags["SeriesDescription"] if source.series else source.files[0].name
        found[source.patient].append(what)
    return {patient: sorted(names) for patient, names in found.items()}


def remarks(folder: Path) -> list[str]:
    return counted(find_sources(folder)[1])


def test_dicom_bids_and_nifti_are_all_found(tmp_path: Path) -> None:
    save(tmp_path / "pat1/dicom", scan_of("A", "1.2.1"))
    save(tmp_path / "pat2/deep/er", scan_of("B", "1.2.2"))
    put(tmp_path, "pat1/t1_brain.nii.gz", "pat3/T1.nii.gz", "pat3/more/FLAIR.nii.gz")
    put(tmp_path, "bids/sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz", "sub-01/sub-01_T1w.nii.gz")
    put(tmp_path, "sub-02/anat/sub-02_T1w.nii.gz")
    save(tmp_path / "sub-02/dicom", scan_of("C", "1.2.3"))
    assert people(tmp_path) == {
        "A": ["t1_brain.nii.gz", "t1_mprage"],
        "B": ["t1_mprage"],
        "C": ["sub-02_T1w.nii.gz", "t1_mprage"],
        "pat3": ["FLAIR.nii.gz", "T1.nii.gz"],
        "bids/sub-01": ["sub-01_ses-a_T1w.nii.gz"],
        "sub-01": ["sub-01_T1w.nii.gz"],
    }
    assert remarks(tmp_path) == []


@pytest.mark.parametrize(
    ("names", "patients", "said"),
    [
        (
            ("site/p1/T1.nii", "site/p2/T1.nii"),
            [],
            "a folder has subfolders with the same file names",
        ),
        (("p1/2019-01-02/T1.nii", "p1/2020-01-02/T1.nii"), ["p1"], ""),
        (("p1/t1/a.nii", "p1/flair/b.nii", "p2/t1/a.nii"), ["p1", "p2"], ""),
        (("all/a1_T1.nii", "all/a2_T1.nii"), [], "a folder has images of several people"),
        (("p/T1_run1.nii", "p/T2_run1.nii"), ["p"], ""),
        (("IXI-T1/IXI002-Guys-0828-T1.nii", "IXI-T2/IXI002-Guys-0828-T2.nii"), ["IXI002"], ""),
        (
            ("b/BraTS-GLI-00001-000-t1n.nii", "c/BraTS-GLI-00001-001-t1n.nii"),
            ["BraTS-GLI-00001"],
            "",
        ),
        (("ADNI/002_S_0295/MPRAGE/2006/ADNI_002_S_0295_MR_MPRAGE.nii",), ["002_S_0295"], ""),
        (("OAS1_0001_MR1/RAW/OAS1_0001_MR1_mpr-1_anon.nii",), ["OAS1_0001"], ""),
        (("T1.nii", "p/T1.nii"), ["p"], "a NIfTI file has no patient's folder"),
        (("p/.hidden.nii", "p/T1.nii", "__MACOSX/p/T1.nii", ".git/x/T1.nii"), ["p"], ""),
        (("sub-1/sub-1_T1w.nii", "derivatives/fs/sub-1/brain.nii"), ["sub-1"], "1 NIfTI files in"),
    ],
)
def test_nifti_is_a_patients_or_it_is_said_why_not(
    tmp_path: Path, names: tuple[str, ...], patients: list[str], said: str
) -> None:
    put(tmp_path, *names, "z/FLAIR.nii")
    assert sorted({*people(tmp_path)} - {"z"}) == patients
    told = remarks(tmp_path)
    assert len(told) == bool(said)
    assert not told or told[0].startswith(said)


def test_nifti_beside_several_patients_is_nobodys(tmp_path: Path) -> None:
    save(tmp_path / "site/a", scan_of("A", "1.2.1"))
    save(tmp_path / "site/b", scan_of("B", "1.2.2"))
    put(tmp_path, "site/T1.nii.gz")
    assert set(people(tmp_path)) == {"A", "B"}
    assert remarks(tmp_path) == ["a NIfTI file has no patient: it lies beside DICOM of 2 patients"]


def test_originals_beside_bids_are_left_out(tmp_path: Path) -> None:
    save(tmp_path / "sourcedata/sub-01", scan_of("A", "1.2.1"))
    assert set(people(tmp_path)) == {"A"}
    put(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    assert set(people(tmp_path)) == {"sub-01"}
    assert len(remarks(tmp_path)) == 1


@pytest.mark.parametrize("name", ["ANONYMOUS", "anon", "0", "0000", "Unknown", "N/A", None, "xxxx"])
def test_an_id_that_names_nobody_is_kept_apart_by_study(tmp_path: Path, name: str | None) -> None:
    for k in range(2):
        save(tmp_path / str(k), scan_of(name, f"1.2.{k + 3}", PatientName=name))  # type: ignore[arg-type]
    save(tmp_path / "2", stack(3, uid="1.2.8", PatientID="P2"))
    assert len(people(tmp_path)) == 3
    if name:
        assert "each of its 2 studies becomes a patient" in remarks(tmp_path)[0]


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ({"PatientName": "Doe^Jane"}, {"PatientName": "DOE^JANE^M"}, False),
        ({"PatientName": "Doe^Jane"}, {"PatientName": "Doe^John"}, True),
        ({"PatientName": "Doe^Jane"}, {"PatientName": "Anonymous"}, False),
        ({"PatientBirthDate": "19500101"}, {"PatientBirthDate": "19600101"}, True),
        ({"PatientBirthDate": "19500101"}, {"PatientBirthDate": None}, False),
        ({"PatientSex": "F"}, {"PatientSex": "M"}, True),
    ],
)
def test_one_id_of_two_people(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], apart: bool
) -> None:
    """By study; and within one study, where both are in it."""
    save(tmp_path / "different/a", scan_of("P1", "1.2.3", **one))
    save(tmp_path / "different/b", scan_of("P1", "1.2.4", **other))
    for k, tags in enumerate((one, other)):
        images = [image(n, uid=f"1.2.{k + 5}", PatientID="P1", **tags) for n in range(3)]
        save(tmp_path / f"same/{k}", images)
    for folder in ("different", "same"):
        found = people(tmp_path / folder)
        assert len(found) == 1 + apart, folder
        assert len(remarks(tmp_path / folder)) == apart
    if not apart:
        assert set(found) == {"P1"}


def test_a_reference_that_shows_no_head_costs_itself_alone(tmp_path: Path) -> None:
    source = write_patient(tmp_path / "source/a")
    nib.save(nib.Nifti1Image(np.ones((32, 32, 4), np.float32), np.eye(4)), source / "T1.nii.gz")
    modalities = ("T1", "FLAIR")
    settings = stack_format(modalities, (32, 32), Grid((1.5, 1.5, 4.0)))
    CohortStore.create(str(tmp_path / "c"), settings)
    chosen = choose(find_sources(tmp_path / "source")[0], read_rules(), modalities, "T1")
    outcome = prepare_patient(FoundPlan("p-1", "train", chosen), str(tmp_path / "c"), Preparation())
    assert outcome.entry is not None, outcome.reason
    assert (outcome.entry.present, outcome.entry.reference) == (["FLAIR"], "FLAIR")
    assert "no head stands out" in outcome.entry.left_out["T1"]


def test_links_and_archives_are_told(tmp_path: Path) -> None:
    source = tmp_path / "source"
    save(source / "a", scan_of("A", "1.2.1"))
    (source / "a/lost").symlink_to("nowhere")
    (source / "a/IM0099").write_text(ANNEX)
    (source / "a/99.dcm").write_text(ANNEX)
    (source / "a/out").symlink_to(save(tmp_path / "elsewhere", [image(0)]) / "000")
    for name in ("b.zip", "c.tar.gz", "d.mha"):
        (source / name).write_bytes(b"PK\x03\x04")
    assert sorted(remarks(source)) == [
        "archives are not read; unpack them first (2 times)",
        "images of this format are not read; convert them to NIfTI",
        "link without its file; run datalad get (git annex get), or copy the file itself (3 times)",
        "links out of the folder are not followed; copy the file",
    ]
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/all.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(
        UserError, match=r"neither DICOM.*; archives are not read; unpack them first$"
    ):
        find_sources(tmp_path / "packed")


def test_a_medium_with_dicomdir(tmp_path: Path) -> None:
    medium = FileSet()
    for dataset in scan_of("A", "1.2.1", StudyDate="20200101", StudyTime="10", StudyID="1"):
        medium.add(dataset)
    medium.write(tmp_path / "cd")
    with warnings.catch_warnings():  # of its temporary folder
        warnings.simplefilter("ignore")
        del medium
        gc.collect()
    assert people(tmp_path / "cd") == {"A": ["t1_mprage"]}
    assert remarks(tmp_path / "cd") == []
    lost = next(p for p in sorted((tmp_path / "cd").rglob("*")) if p.name.startswith("IM"))
    lost.unlink()
    (said,) = remarks(tmp_path / "cd")
    assert said == "DICOMDIR names 1 files that are not there; copy the whole medium"
