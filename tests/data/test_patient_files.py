"""Which file of a patient's folder is which modality, and what people call modalities."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from any2all_core.stack_format import Grid, StackFormat
from any2all_core.testing import AFFINE, phantom
from any2all_data.modality_names import kind_of_name, known_name
from any2all_data.one_grid import prepare_line
from any2all_data.patient_files import find_file, find_images
from any2all_data.patient_volumes import open_patient
from any2all_operators import UserError

KNOWN = ("T1", "FLAIR", "T1Gd", "T2")
GRID = Grid((1.5, 1.5, 4.0))
VOLUME = phantom()


def images(names: tuple[str, ...], size: tuple[int, int], grid: Grid | None = None) -> StackFormat:
    return dataclasses.replace(StackFormat.of_names(names, size), grid=grid)


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(VOLUME, AFFINE), path)
    return folder


def found(folder: Path, modalities: tuple[str, ...] = KNOWN) -> dict[str, str]:
    images = find_images(folder, modalities).images
    return {
        m: one.path.relative_to(folder).as_posix().split(".nii")[0] for m, one in images.items()
    }


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["t1", "Flair", "T1GD"], {"T1": "t1", "FLAIR": "Flair", "T1Gd": "T1GD"}),
        (
            ["BraTS_001_t1", "BraTS_001_t1ce", "BraTS_001_t2", "BraTS_001_flair", "BraTS_001_seg"],
            {
                "T1": "BraTS_001_t1",
                "T1Gd": "BraTS_001_t1ce",
                "T2": "BraTS_001_t2",
                "FLAIR": "BraTS_001_flair",
            },
        ),
        (
            ["BraTS-GLI-00001-000-t1n", "BraTS-GLI-00001-000-t2f"],
            {"T1": "BraTS-GLI-00001-000-t1n", "FLAIR": "BraTS-GLI-00001-000-t2f"},
        ),
        (
            ["anat/sub-01_T1w", "anat/sub-01_ce-gd_T1w", "anat/sub-01_FLAIR", "func/sub-01_bold"],
            {
                "T1": "anat/sub-01_T1w",
                "T1Gd": "anat/sub-01_ce-gd_T1w",
                "FLAIR": "anat/sub-01_FLAIR",
            },
        ),
        (["ses-1/anat/sub-01_ses-1_T2w"], {"T2": "ses-1/anat/sub-01_ses-1_T2w"}),
        (["T1", "sub-01_T1w"], {"T1": "T1"}),  # a modality's own name comes first
        (["T2_to_T1"], {"T2": "T2_to_T1"}),
        (["t1_mask", "._t1", "notes"], {}),
        (["other/t1"], {}),  # another folder is somebody else's
    ],
)
def test_files_are_understood_as_they_are_called(
    tmp_path: Path, names: list[str], wanted: dict[str, str]
) -> None:
    assert found(write(tmp_path, *names)) == wanted


def test_a_modality_that_no_rule_knows_is_found_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, "p01_adc", "p01_t1")
    assert found(tmp_path, ("T1", "ADC")) == {"T1": "p01_t1", "ADC": "p01_adc"}


def test_what_is_chosen_over_what_is_said_and_a_tie_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", "sub-01_T1w", "sub-01_desc-preproc_T1w")
    notes = find_images(tmp_path / "a", KNOWN).images["T1"].notes
    assert notes == (
        "read from sub-01_T1w.nii.gz",
        "sub-01_desc-preproc_T1w.nii.gz is not used: it is derived from another image",
    )
    write(tmp_path / "b", "BraTS_001_t1")
    other = nib.Nifti1Image(phantom(seed=5), AFFINE)
    nib.save(other, tmp_path / "b/BraTS_002_t1.nii.gz")
    with pytest.raises(UserError, match=r"T1 may be BraTS_001_t1.nii.gz or BraTS_002_t1.nii.gz"):
        find_images(tmp_path / "b", KNOWN)
    for session in ("ses-1", "ses-2"):
        write(tmp_path / "c", f"{session}/anat/sub-01_{session}_T1w")
    nib.save(other, tmp_path / "c/ses-2/anat/sub-01_ses-2_T1w.nii.gz")
    with pytest.raises(UserError, match=r"give the folder of one session, for example .*c/ses-1"):
        find_images(tmp_path / "c", KNOWN)
    assert found(tmp_path / "c/ses-1") == {"T1": "anat/sub-01_ses-1_T1w"}


def test_a_patient_is_read_by_such_names(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", "p_t1", "p_flair", "p_dwi")
    patient = open_patient(str(folder), images(KNOWN, (32, 32)))
    assert list(patient.volumes) == ["T1", "FLAIR"]
    assert patient.volumes["T1"].notes == ("read from p_t1.nii.gz",)
    assert patient.missing["T2"] == (
        "the folder has T1, FLAIR; files with unknown names: p_dwi.nii.gz"
    )


def test_raw_files_are_found_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "flair.npy").touch()
    (tmp_path / "t1ce.h5").touch()
    ends = (".npy", ".h5")
    assert find_file(tmp_path, "FLAIR", ends) == tmp_path / "flair.npy"
    assert find_file(tmp_path, "T1Gd", ends) == tmp_path / "t1ce.h5"
    assert find_file(tmp_path, "T1", ends) is None
    (tmp_path / "Flair.h5").touch()
    with pytest.raises(UserError, match=r"FLAIR may be Flair.h5 or flair.npy"):
        find_file(tmp_path, "FLAIR", ends)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[(name, "T1") for name in ("T1", "t1w", "T1n")],
        *[(name, "T1Gd") for name in ("t1ce", "T1-Gd", "t1c", "T1_post", "t1gd")],
        *[(name, "FLAIR") for name in ("flair", "t2f", "Flair")],
        *[(name, "T2star") for name in ("t2*", "T2-star", "T2star")],
        *[("ct", "CT"), ("Pet", "PET"), ("t2w", "T2")],
        *[(name, "") for name in ("mr", "MRI", "T2s", "bogus", "T1map", "")],
    ],
)
def test_aliases(name: str, kind: str) -> None:
    assert kind_of_name(name) == kind


def test_a_name_is_one_of_the_priors_or_refused() -> None:
    assert known_name("flair", KNOWN) == "FLAIR"
    assert known_name("t1ce", KNOWN) == "T1Gd"
    assert known_name("t1", ("T1w", "CT")) == "T1w"
    assert known_name("t1W", ("T1", "T1w")) == "T1w", "in another case before an alias"
    with pytest.raises(UserError, match="t1n may be T1 or T1w; name one of them"):
        known_name("t1n", ("T1", "T1w"))
    with pytest.raises(UserError, match=r"; did you mean FLAIR\? This prior knows T1, FL"):
        known_name("flare", KNOWN)
    with pytest.raises(UserError, match=r"knows T1, FLAIR, T1Gd, T2$"):
        known_name("PET", KNOWN)


def test_other_grids_lead_to_the_line_that_makes_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "my scans/p01", "t1")
    nib.save(nib.Nifti1Image(phantom(depth=6), AFFINE), folder / "flair.nii.gz")
    with pytest.raises(UserError) as mistake:
        open_patient(str(folder), images(KNOWN, (32, 40), GRID))
    source = tmp_path / "my scans"
    line = f"any2all prepare '{source}' '{source}-cohort' --size 32,40 --spacing 1.5,1.5,4"
    assert "flair.nii.gz: shape (32, 32, 6), but" in str(mistake.value)
    assert "any2all sample --resample (in Python resample=True) does this" in str(mistake.value)
    assert str(mistake.value).endswith(line)
    assert prepare_line("scans", (8, 8), Grid(None, "CT")) == (
        "any2all prepare scans scans-cohort --size 8,8 --spacing native --reference CT"
    )
    with pytest.raises(UserError, match="--resample: this prior does not record the voxel size"):
        open_patient(str(folder), images(KNOWN, (32, 40)), resample=True)


def test_results_come_back_to_the_patients_own_grid(tmp_path: Path) -> None:
    """T1 of 1.5 x 1.5 x 4 mm in RAS order, on a prior's grid of 3 x 3 x 4 mm and back."""
    folder = tmp_path / "p"
    folder.mkdir()
    place = np.diag([1.5, 1.5, 4.0, 1.0])
    place[:3, 3] = (-40, -50, 10)
    t1 = phantom(size=64, depth=12)
    nib.save(nib.Nifti1Image(t1, place), folder / "t1.nii.gz")
    nib.save(nib.Nifti1Image(t1 * 0.5, place), folder / "flair.nii.gz")
    (folder / "flair.json").write_text(json.dumps({"Modality": "MR"}))
    format_ = images(("T1", "FLAIR"), (40, 40), Grid((3.0, 3.0, 4.0)))
    patient = open_patient(str(folder), format_, resample=True)
    own = patient.own
    assert own is not None
    assert patient.volumes["T1"].slices.shape[1:] == (40, 40)
    assert own.like.file_axes == ("R", "A", "S")
    there = own.images["T1"]
    assert there.shape == (12, 64, 64)
    np.testing.assert_array_equal(there.transpose(2, 1, 0)[::-1, ::-1], t1)
    volume = patient.volumes["FLAIR"]
    back = own.resampled_back(volume.slices, volume.affine, 0.0)
    error = np.abs(back - there * 0.5)
    assert error.mean() < 2.5, "of values up to 97, at half the resolution"
    assert np.corrcoef(back.ravel(), there.ravel())[0, 1] > 0.98
    # a slab: what lies outside of it is what it is told to be
    affine = volume.affine.copy()
    affine[:3, 3] += 3 * affine[:3, 2]
    part = own.resampled_back(volume.slices[3:4], affine, -7.0)
    inside = (part != -7.0).any((1, 2))
    assert inside.sum() == 1
    np.testing.assert_allclose(part[inside], back[inside], atol=25)


def test_slices_of_a_resampled_patient_are_counted_on_its_own_grid(tmp_path: Path) -> None:
    """T1 with slices of 4 mm, on a prior's grid of slices of 6 mm; slices 4 to 6 are wanted."""
    folder = tmp_path / "p"
    folder.mkdir()
    place = np.diag([1.5, 1.5, 4.0, 1.0])
    nib.save(nib.Nifti1Image(phantom(size=64, depth=12), place), folder / "t1.nii.gz")
    format_ = images(("T1", "FLAIR"), (40, 40), Grid((3.0, 3.0, 6.0)))
    whole = open_patient(str(folder), format_, resample=True).own
    asked: list[int] = []

    def wanted(count: int) -> range:
        asked.append(count)
        return range(4, 7)

    patient = open_patient(str(folder), format_, resample=True, slices=wanted)
    own, volume = patient.own, patient.volumes["T1"]
    assert own is not None
    assert whole is not None
    assert set(asked) == {12}
    assert own.first == 4
    np.testing.assert_array_equal(own.images["T1"], whole.images["T1"][4:7])
    np.testing.assert_allclose(own.like.affine @ [0, 0, 0, 1], whole.like.affine @ [0, 0, 4, 1])
    planes = own.planes(volume.affine, len(volume.slices))
    heights = [(volume.affine @ [0, 0, z, 1])[2] for z in planes]
    assert heights[0] <= 4 * 4.0 < heights[1]
    assert heights[-2] < 6 * 4.0 <= heights[-1]
    for z in planes:
        nearest = round((volume.affine @ [0, 0, z, 1])[2] / 4)
        assert own.number(volume.affine, (40, 40), z) == np.clip(nearest, 4, 6)
    far = volume.affine.copy()
    far[2, 3] += 500
    with pytest.raises(UserError, match="--slices 4:7: these slices of the patient lie outside"):
        own.planes(far, len(volume.slices))
