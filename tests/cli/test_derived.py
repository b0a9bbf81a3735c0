"""From a patient's DICOM through a prior and back: derived series in the right place and unit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from any2all_cli.sample import _unnamed
from any2all_core import Grid, ModalityFormat, PriorSettings, Range, StackFormat
from any2all_core.network import build_prior
from any2all_core.testing import TINY_RECIPE, phantom
from any2all_data.cohort_entry import Entry
from any2all_data.dicom import Series, find_series, read_series, unit_of
from any2all_data.dicom_derived import Derived, write_derived
from any2all_data.kinds import kind_of, stack_format
from any2all_data.store import CohortStore
from any2all_operators import UserError
from builders.command_line import Run
from builders.dicom import save, stack
from builders.nifti import load
from pydicom import dcmread
from pydicom.uid import CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage

pytestmark = pytest.mark.slow

SIZE, DEPTH = 32, 6
STUDY = "1.2.840.99999.1"
MODALITIES = (
    ModalityFormat("T1"),
    ModalityFormat("FLAIR"),
    ModalityFormat("CT", "HU", "group", Range(-1000.0, 1600.0)),
    ModalityFormat("PET", "SUV g/ml", "group", Range(0.0, 2.5)),
)
IDENTITY = ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID")


def scan(folder: Path, name: str = "t1_mprage", uid: str = "1.2.3", seed: int = 0) -> Path:
    """An oblique DICOM series of a head-like phantom."""
    head = phantom(40, DEPTH, seed).astype(np.uint16) * 10
    tags: dict[str, Any] = {
        "SeriesDescription": name,
        "Rows": 40,
        "Columns": 40,
        "StudyInstanceUID": STUDY,
    }
    images = stack(DEPTH, uid=uid, **tags)
    for k, dataset in enumerate(images):
        dataset.PixelData = head[:, :, k].T.tobytes()
        dataset.PatientBirthDate = "19510203"
    return save(folder, images)


@pytest.fixture(scope="module")
def prior_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained prior of a cohort with voxels of its own for each patient."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("prior")
    settings = PriorSettings(StackFormat(MODALITIES, (SIZE, SIZE), Grid()))
    build_prior(TINY_RECIPE, settings).save(folder)
    return folder


def only(folder: Path) -> Series:
    (series,), damaged = find_series(folder)
    assert not damaged
    return series


def complaints(folder: Path) -> list[str]:
    """What dciodvfy calls an error."""
    program = shutil.which("dciodvfy") or Path(sysconfig.get_path("scripts"), "dciodvfy")
    found = []
    for path in sorted(folder.rglob("*.dcm")):
        done = subprocess.run([program, path], capture_output=True, text=True, check=False)
        found += [line for line in done.stderr.splitlines() if line.startswith("Error")]
        assert "Image" in done.stderr  # it has looked
    return found


def test_dicom_in_and_dicom_out(any2all: Run, prior_folder: Path, tmp_path: Path) -> None:
    source = scan(tmp_path / "patient/a").parent
    scan(source / "b", "t2_flair", "1.2.4", seed=3)
    done = any2all(
        "sample", "--prior", prior_folder, "--input", source, "--modalities",
        "T1=clean,FLAIR=kspace", "--simulate", "--set", "steps=2", "--dicom", "--output", "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "contain the patient's name" in done.stderr
    out = tmp_path / "out"
    assert sorted(p.name for p in (out / "dicom").iterdir()) == ["CT", "FLAIR", "PET"]
    given = dcmread(source / "a/000")
    kinds = {
        "FLAIR": (MRImageStorage, "reconstructed", "arbitrary"),
        "CT": (CTImageStorage, "synthesised", "HU"),
        "PET": (PositronEmissionTomographyImageStorage, "synthesised", "SUV g/ml"),
    }
    numbers = set()
    for name, (kind, verb, unit) in kinds.items():
        series = only(out / "dicom" / name)
        back, written = read_series(series), load(out / f"{name}.nii.gz")
        back = back.as_reoriented(nib.io_orientation(np.linalg.inv(written.affine) @ back.affine))
        assert back.shape == (SIZE, SIZE, DEPTH)
        assert np.allclose(back.affine, written.affine, atol=1e-4)
        header = dcmread(out / "dicom" / name / "0001.dcm")
        values, expected = back.get_fdata(), written.get_fdata()
        if name == "FLAIR":
            assert np.corrcoef(values.ravel(), expected.ravel())[0, 1] > 0.9999
        else:
            step = 1.0 if name == "CT" else float(header.RescaleSlope)
            assert np.abs(values - expected).max() <= 0.51 * step + 1e-4
        assert unit_of(series) == unit
        assert header.SOPClassUID == kind
        assert header.ImageType[0] == "DERIVED"
        assert f"{name} {verb} from T1 (clean), FLAIR (kspace)" in header.DerivationDescription
        assert "not for diagnosis" in header.DerivationDescription
        for keyword in IDENTITY:
            assert header[keyword].value == given[keyword].value
        assert header.PatientBirthDate == "19510203"
        assert header.SeriesInstanceUID != given.SeriesInstanceUID
        numbers.add(header.SeriesNumber)
        # the source that is named lies in the same plane
        named = {str(dcmread(p).SOPInstanceUID): dcmread(p) for p in (source / "a").iterdir()}
        source_image = named[header.SourceImageSequence[0].ReferencedSOPInstanceUID]
        axes = np.array(header.ImageOrientationPatient, float)
        gap = np.subtract(header.ImagePositionPatient, source_image.ImagePositionPatient)
        assert abs(np.cross(axes[:3], axes[3:]) @ gap.astype(float)) < 1e-3
    assert len(numbers) == 3
    assert complaints(out / "dicom") == []
    # an identity is in the DICOM alone
    for path in (out / "report.json", *out.glob("*.nii.gz")):
        assert b"Secret" not in path.read_bytes()


def test_a_patient_of_a_cohort(any2all: Run, prior_folder: Path, tmp_path: Path) -> None:
    source = scan(tmp_path / "source/x/a").parent
    scan(source / "b", "t2_flair", "1.2.4", seed=3)
    grid = ("--spacing", "native", "--size", SIZE, "--workers", 1, "--split", "train")
    done = any2all("prepare", tmp_path / "source", "c", *grid)
    assert done.returncode == 0, done.stderr
    (name, entry), *_ = CohortStore.open("c").patients().items()
    command = ("sample", "--prior", prior_folder, "--input", f"c/{name}", "--set", "steps=2")
    clean = ("--modalities", "T1=clean")
    done = any2all(*command, *clean, "--output", "out")
    assert done.returncode == 0, done.stderr
    written = load(tmp_path / "out/T1.nii.gz")
    assert np.allclose(written.affine, entry.affine, atol=1e-4)
    images = CohortStore.open("c").images(name)
    assert np.array_equal(written.get_fdata(dtype=np.float32).transpose(2, 1, 0), images[:, 0])
    assert (
        json.loads((tmp_path / "out/report.json").read_text())["modalities"]["CT"]["unit"] == "HU"
    )
    # back to DICOM, by the series that it came from
    dicom = ("--dicom", "--dicom-from")
    done = any2all(*command, *clean, "--output", "o2", *dicom, source / "a", "--slices", "2:5")
    assert done.returncode == 0, done.stderr
    back, ct = (
        read_series(only(tmp_path / "o2/dicom/CT")),
        load(tmp_path / "o2/CT.nii.gz"),
    )
    assert back.shape[2] == ct.shape[2] == 3
    turned = back.as_reoriented(nib.io_orientation(np.linalg.inv(ct.affine) @ back.affine))
    assert np.allclose(turned.affine, ct.affine, atol=1e-4)
    # and not by one that lies elsewhere
    moved = scan(tmp_path / "moved", uid="1.2.5")
    for path in moved.iterdir():
        dataset = dcmread(path)
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x + 8, y, z]
        dataset.save_as(path)
    assert _unnamed(["sample", "--dicom-from=a/DOE", "--draws=2"], ["--dicom-from"]) == [
        "sample",
        "--dicom-from=DICOM",
        "--draws=2",
    ]
    mistakes = {
        ("--dicom",): "the input is not DICOM; give --dicom-from",
        (*dicom, moved): "it is not at the position of the input's T1",
        (*dicom, source): "has 2 series; expected the folder of one series",
        ("--dicom-from", source): "--dicom-from needs --dicom",
    }
    for arguments, said in mistakes.items():
        done = any2all(*command, *clean, "--output", "o3", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert said in done.stderr
        assert not (tmp_path / "o3").exists()
    wrong = {
        "c/p-0": "no patient p-0 in this cohort",
        "nowhere": "no such folder",
        str(tmp_path / "source/x"): "no PET to be used (there is T1, FLAIR)",
    }
    for input_, said in wrong.items():
        done = any2all(
            "sample", "--prior", prior_folder, "--input", input_, "--modalities", "PET=clean"
        )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert said in done.stderr


def test_no_frame_of_reference_no_dicom(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", stack(FrameOfReferenceUID=None))
    blank = np.zeros((3, 8, 8), np.float32)
    image = Derived(kind_of("CT"), blank, np.eye(4), Range(-1000, 1000), "d", "m")
    with pytest.raises(UserError, match="no FrameOfReferenceUID"):
        write_derived(tmp_path / "out", image, only(folder), 9001)


def test_virtual_people_are_called_so(any2all: Run, prior_folder: Path, tmp_path: Path) -> None:
    store = CohortStore.create(str(tmp_path / "c"), stack_format(("T1",), (SIZE, SIZE)), True)
    images = phantom(SIZE, 3).transpose(2, 1, 0)[:, None]
    told = Entry("test", np.diag([-1.5, -1.5, 4, 1]).tolist(), ["T1"], scale={"T1": 150.0})
    store.write("virtual-00000", images, told)
    folder = tmp_path / "virtual-prior"
    shutil.copytree(prior_folder, folder)
    kept = json.loads((folder / "prior.json").read_text())
    kept["training"]["virtual"] = True
    (folder / "prior.json").write_text(json.dumps(kept))
    for input_, output in (("c/virtual-00000", "one"), ("c", "all")):
        done = any2all(
            *("sample", "--prior", folder, "--input", input_, "--modalities", "T1=clean"),
            *("--set", "steps=2", "--output", output),
        )
        assert done.returncode == 0, done.stderr
    for path in (tmp_path / "one/report.json", tmp_path / "all/virtual-00000/report.json"):
        report = json.loads(path.read_text())
        assert report["prior"]["virtual"]
        assert report["patient"] == (
            "a virtual person, simulated; no such person exists; prior trained on virtual people"
        )
